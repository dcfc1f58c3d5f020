"""Trains a small EnCodec: first the autoencoder, then codebooks by residual k-means of its latents, then the decoder.

The published recipe learns everything at once, against discriminators, which two CPU cores cannot afford. In stages it
takes ten minutes. The autoencoder starts from principal components, and soon gets good without a quantiser. k-means of
its latents gives codebooks whose entries are all used from the start; learning latents and codebooks together was
tried, and made both worse in the same time. At last the decoder learns to decode quantised latents.

Shape legend: B = windows, N = samples (or vectors, where D is the other dimension), D = latent dimensions, T = latent
frames, K = codebooks, C = entries of a codebook.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import faiss
import numpy as np
import torch
from torch import Tensor, nn
from torchaudio.transforms import MelSpectrogram
from transformers import EncodecConfig, EncodecModel

from lumina_ray.training.codec_init import initialise_by_components
from lumina_ray.training.data import learning_rate, random_windows, step_generator
from lumina_ray.vocabulary import SAMPLE_RATE_HZ

N_CODEBOOKS = 4
CODEBOOK_SIZE = 512
_CROP = SAMPLE_RATE_HZ
_BATCH = 8
_PEAK_RATE = 5e-4
_FFT_SIZES = (2048, 1024, 512, 256)
# Windows of 5 s each: 60 000 latent frames, which is more than a hundred for each of 512 centroids.
_KMEANS_WINDOWS = 240


Report = Callable[[dict[str, float], dict[str, Any]], None]
"""Function that is called during training with metrics, and with a state that training can continue from."""


@dataclass(frozen=True)
class CodecSchedule:
    """Training steps of the codec.

    Attributes:
        autoencoder: steps that train encoder and decoder without a quantiser.
        decoder: steps that then train the decoder alone, on quantised latents.
    """

    autoencoder: int = 500
    decoder: int = 500

    @property
    def total(self) -> int:
        """All steps."""
        return self.autoencoder + self.decoder


def codec_config() -> EncodecConfig:
    """Configure a codec as facebook/encodec_32khz (50 Hz, 4 codebooks, two LSTM layers), with 8 filters and not 64."""
    bits = N_CODEBOOKS * np.log2(CODEBOOK_SIZE)
    return EncodecConfig(
        target_bandwidths=[float(bits * 50 / 1000)],
        sampling_rate=SAMPLE_RATE_HZ,
        audio_channels=1,
        normalize=False,
        upsampling_ratios=[8, 5, 4, 4],
        num_filters=8,
        hidden_size=64,
        codebook_dim=64,
        codebook_size=CODEBOOK_SIZE,
        num_lstm_layers=2,
        use_causal_conv=False,
        use_conv_shortcut=False,
    )


def new_codec(seed: int) -> EncodecModel:
    """An untrained codec, with random weights that follow from the seed."""
    torch.manual_seed(seed)
    return EncodecModel(codec_config())


def train_codec(
    songs: list[np.ndarray],
    schedule: CodecSchedule,
    *,
    seed: int,
    report: Report,
    report_every: int = 100,
    resume: dict[str, Any] | None = None,
) -> EncodecModel:
    """Train a codec.

    Args:
        songs: float32 `[n]` each, mono, 32 kHz.
        schedule: number of steps.
        seed: seed of the weights and of the training windows.
        report: called every `report_every` steps and at the end, with metrics and a state.
        report_every: steps between two reports.
        resume: a state that `report` was given. Training continues from it, and ends with the weights that it would
            have without the interruption.
    """
    model = new_codec(seed).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=_PEAK_RATE, betas=(0.9, 0.99))
    mels = mel_transforms()
    first = 0
    if resume is not None:
        model.load_state_dict(resume["model"])
        optimizer.load_state_dict(resume["optimizer"])
        first = int(resume["step"])
    else:
        initialise_by_components(model, songs, seed)
    for step in range(first, schedule.total):
        if step == schedule.autoencoder:
            fit_codebooks(model, songs, seed)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, schedule.total, _PEAK_RATE)
        wave_B1N = random_windows(songs, _CROP, _BATCH, step_generator(seed, step))[:, None]
        with torch.set_grad_enabled(step < schedule.autoencoder):
            latents_BDT = model.encoder(wave_B1N)
        if step >= schedule.autoencoder:
            latents_BDT = quantise(model, latents_BDT)
        decoded_B1N = model.decoder(latents_BDT)
        spectral, waveform = spectral_distance(mels, decoded_B1N, wave_B1N), waveform_distance(decoded_B1N, wave_B1N)
        loss = spectral + waveform
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if (step + 1) % report_every == 0 or step + 1 == schedule.total:
            state = {"step": step + 1, "model": model.state_dict(), "optimizer": optimizer.state_dict()}
            report({"step": step + 1, "spectral": spectral.item(), "waveform": waveform.item()}, state)
    return model.eval()


def mel_transforms() -> list[MelSpectrogram]:
    """Mel spectrograms at the four scales at which training and evaluation compare waveforms."""
    return [
        MelSpectrogram(SAMPLE_RATE_HZ, n_fft=n, hop_length=n // 4, n_mels=min(80, n // 8), normalized=True)
        for n in _FFT_SIZES
    ]


def spectral_distance(mels: list[MelSpectrogram], ours_B1N: Tensor, target_B1N: Tensor) -> Tensor:
    """L1 distance of log-mel spectrograms, averaged over scales (natural logarithm, floor 1e-5): a scalar."""
    distance = torch.zeros(())
    for mel in mels:
        ours, target = (mel(wave[:, 0]).clamp(min=1e-5).log() for wave in (ours_B1N, target_B1N))
        distance = distance + (ours - target).abs().mean() / len(mels)
    return distance


def waveform_distance(ours_B1N: Tensor, target_B1N: Tensor) -> Tensor:
    """L1 distance of waveforms, divided by the target's L1 norm, so that loud and quiet windows count alike: a scalar.

    Silence has distance 1 from every target.
    """
    error_B = (ours_B1N - target_B1N).abs().mean(dim=(1, 2))
    return (error_B / target_B1N.abs().mean(dim=(1, 2)).clamp(min=1e-3)).mean()


def quantise(model: EncodecModel, latents_BDT: Tensor) -> Tensor:
    """Quantise latents `[B, D, T]` to their nearest centroids, level after level; no gradient flows back."""
    with torch.no_grad():
        residual_ND = latents_BDT.transpose(1, 2).flatten(0, 1)
        total_ND = torch.zeros_like(residual_ND)
        for layer in model.quantizer.layers[:N_CODEBOOKS]:
            centroids_CD = layer.codebook.embed
            nearest_N = torch.cdist(residual_ND, centroids_CD).argmin(dim=1)
            total_ND += centroids_CD[nearest_N]
            residual_ND = residual_ND - centroids_CD[nearest_N]
    B, D, T = latents_BDT.shape
    return total_ND.view(B, T, D).transpose(1, 2)


def fit_codebooks(model: EncodecModel, songs: list[np.ndarray], seed: int) -> None:
    """Set each codebook to k-means centroids of the songs' latents, less what the codebooks before it explain."""
    generator = step_generator(seed, 0)
    with torch.no_grad():
        waves = random_windows(songs, 5 * _CROP, _KMEANS_WINDOWS, generator).split(1)
        residual_ND = torch.cat([model.encoder(wave_1N[None])[0].T for wave_1N in waves])
        residual = np.ascontiguousarray(residual_ND.numpy())
        for layer in model.quantizer.layers[:N_CODEBOOKS]:
            kmeans = faiss.Kmeans(residual.shape[1], CODEBOOK_SIZE, niter=20, seed=seed, gpu=False,
                                  max_points_per_centroid=len(residual))  # fmt: skip
            kmeans.train(residual)
            centroids_CD = np.asarray(kmeans.centroids)
            layer.codebook.embed.copy_(torch.from_numpy(centroids_CD))
            layer.codebook.embed_avg.copy_(layer.codebook.embed)
            _, nearest_N1 = kmeans.index.search(residual, 1)
            residual = residual - centroids_CD[nearest_N1[:, 0]]


def evaluate_codec(model: EncodecModel, songs: list[np.ndarray]) -> dict[str, float]:
    """Measure how well the codec reconstructs whole songs from their codes.

    Args:
        songs: float32 `[n]` each, mono, 32 kHz.

    Returns:
        `si_sdr_db`: scale-invariant signal-to-distortion ratio (Le Roux et al. 2019, eq. 5), mean over songs;
        `mel_distance`: L1 distance of log-mel spectrograms, as in training, mean over songs;
        `codebook_use`: fraction of entries that occur, of the codebook with the smallest such fraction.
    """
    mels = mel_transforms()
    ratios, distances, used = [], [], torch.zeros(N_CODEBOOKS, CODEBOOK_SIZE, dtype=torch.bool)
    with torch.no_grad():
        for song in songs:
            wave_11N = torch.from_numpy(song)[None, None]
            codes_1BKT = model.encode(wave_11N).audio_codes
            decoded_11N = model.decode(codes_1BKT, [None])[0][..., : wave_11N.shape[-1]]
            for k in range(N_CODEBOOKS):
                used[k, codes_1BKT[0, 0, k]] = True
            ratios.append(si_sdr_db(decoded_11N.flatten(), wave_11N.flatten()))
            distances.append(float(spectral_distance(mels, decoded_11N, wave_11N)))
    return {
        "si_sdr_db": float(np.mean(ratios)),
        "mel_distance": float(np.mean(distances)),
        "codebook_use": float(used.float().mean(dim=1).min()),
    }


def si_sdr_db(estimate_N: Tensor, target_N: Tensor) -> float:
    """Scale-invariant signal-to-distortion ratio in dB (Le Roux et al. 2019, "SDR – half-baked or well done?", eq. 5).

    Both waveforms are float `[n]`.
    """
    target_N = target_N.double() - target_N.double().mean()
    estimate_N = estimate_N.double() - estimate_N.double().mean()
    projection_N = (estimate_N @ target_N) / (target_N @ target_N) * target_N
    return float(10 * torch.log10(projection_N.square().sum() / (estimate_N - projection_N).square().sum()))
