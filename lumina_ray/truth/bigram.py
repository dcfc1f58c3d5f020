"""A floor without a model: hidden states that know the previous codes and have learned nothing.

Shape legend: B = chunks, K = codebooks, T = frames, C = codes of a codebook, D = width.
"""

import hashlib

import torch
from torch import Tensor, nn

from lumina_ray.model.interface import Prediction, valid_targets
from lumina_ray.model.statistics import no_statistics
from lumina_ray.model.transformers_adapter import TransformersMusicGen

_DECAY = 0.8


class Bigram:
    """Stands in for a model where fingerprints of kind "influence" are made: it has no weights, and so no layers.

    The hidden state at frame t is `Σ_{s<t} 0.8^(t−1−s) Σ_k E_k[code_ks]`, for fixed random embeddings E of all codes.
    The attributes are those of `MusicModel`, as far as these fingerprints ask for them.
    """

    name = "bigram"
    n_layers = 0

    def __init__(self, like: TransformersMusicGen, seed: int) -> None:
        """Make one of a model's sizes; the seed is that of the embeddings."""
        self.device = torch.device("cpu")
        self.dim, self.frame_rate_hz = like.dim, like.frame_rate_hz
        self.n_codebooks, self.codebook_size = like.n_codebooks, like.codebook_size
        self.representation, self.draws = like.representation, like.draws
        self.statistics = no_statistics(self.n_codebooks, self.codebook_size)
        generator = torch.Generator().manual_seed(seed)
        self._embeddings_KCD = torch.randn(self.n_codebooks, self.codebook_size, self.dim, generator=generator)
        self.weights_sha256 = hashlib.sha256(self._embeddings_KCD.numpy().tobytes()).hexdigest()

    def predict(self, codes_BKT: Tensor, n_frames: list[int]) -> Prediction:
        """Give the hidden states, which are those of all codebooks, and logits that say nothing (all zero)."""
        B, K, T = codes_BKT.shape
        hidden_BTD = torch.zeros(B, T, self.dim)
        # Frame by frame and codebook by codebook: a matrix product's last bits could depend on the other chunks.
        for t in range(1, T):
            state_BD = _DECAY * hidden_BTD[:, t - 1]
            for k in range(K):
                state_BD = state_BD + self._embeddings_KCD[k, codes_BKT[:, k, t - 1]]
            hidden_BTD[:, t] = state_BD
        return Prediction(
            logits_BKTC=torch.zeros(()).expand(B, K, T, self.codebook_size),
            hidden_BKTD=hidden_BTD[:, None].expand(-1, K, -1, -1),
            valid_BKT=valid_targets(n_frames, K, T, self.device),
        )

    def heads(self) -> tuple[nn.Parameter, ...]:
        """Heads that have shapes and no data, `[C, D]`: fresh heads take their places."""
        return tuple(
            nn.Parameter(torch.empty(self.codebook_size, self.dim, device="meta")) for _ in range(self.n_codebooks)
        )

    def parameters(self) -> list[nn.Parameter]:
        """None: nothing was learned."""
        return []
