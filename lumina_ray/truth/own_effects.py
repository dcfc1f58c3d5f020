"""Effects of an operator's own model: fitted on its own bank, and good for an index of that model and catalog."""

import numpy as np

from lumina_ray.calibration.effects import FIT_VERSION
from lumina_ray.errors import UsageError
from lumina_ray.methods import METHODS, Features, Method, attribute, cache
from lumina_ray.truth.effects import z_scores
from lumina_ray.truth.effects_fit import KINDS, Effects, fit_kinds
from lumina_ray.truth.evaluation_set import EvaluationSet
from lumina_ray.truth.fingerprints import OF_RESIDUALS, Fingerprints, fingerprint_pieces
from lumina_ray.truth.own_bank import OwnBank
from lumina_ray.truth.own_model import open_decoder, pieces_codes
from lumina_ray.truth.own_recipe import WHOLE
from lumina_ray.truth.queries import QueryKind, Split
from lumina_ray.truth.unlearning import query_codes
from lumina_ray.vocabulary import Channel

_SPLITS: tuple[Split, Split] = ("dev", "test")


def fit_own_effects(bank: OwnBank, name: str, device: str = "cpu") -> Effects:
    """Fit effects of every kind of query that a bank has; makes fingerprints, with the model of the whole catalog.

    Args:
        name: of the method whose scores they are.

    Raises:
        UsageError: there is no such method, it takes more than a fingerprint of one model, or no kind can be fitted.
        ModelError: the bank's model is not at hand, or lacks what the method needs measured.
        NumericsError: scores that cannot be right.
    """
    method = _method(name)
    asked = {split: _asked(bank, split) for split in _SPLITS}
    left_out: dict[QueryKind, str] = {
        kind: f"the bank has no losses of this kind on {' and '.join(missing)}"
        for kind in KINDS
        if (missing := [split for split in _SPLITS if not asked[split].of_kind(kind)])
    }
    model = open_decoder(str(bank.model), device)
    queries = [query for split in _SPLITS for query in asked[split].queries]
    pieces = [
        *pieces_codes(model, bank.learned),
        *(query_codes(query, model.frame_rate_hz) for query in queries),
        *pieces_codes(model, bank.controls),
    ]
    assert method.kind is not None
    made = fingerprint_pieces(model, method.kind, pieces, with_losses=method.kind in OF_RESIDUALS)
    z: dict[Split, dict[Channel, np.ndarray]] = {split: {} for split in _SPLITS}
    N, n_dev, n_test = len(bank.learned), *(len(asked[split].queries) for split in _SPLITS)
    for channel in method.channels:
        scored = _scores(method, channel, made, N)
        controls_CN = scored[n_dev + n_test :]
        z["dev"][channel] = z_scores(scored[:n_dev], controls_CN)
        z["test"][channel] = z_scores(scored[n_dev : n_dev + n_test], controls_CN)
    kinds = fit_kinds(bank, asked, z, left_out)
    return Effects(
        version=FIT_VERSION,
        method=name,
        model=WHOLE,
        weights_sha256=made.weights_sha256,
        specification_sha256=made.specification_sha256,
        catalog_sha256=bank.catalog_sha256,
        n_layers=model.n_layers,
        dim=model.dim,
        heads=int(model.model.config.decoder.num_attention_heads),
        n_songs=N,
        n_controls=len(bank.controls),
        kinds=kinds,
        left_out=left_out,
    )


def _method(name: str) -> Method:
    if name not in METHODS:
        raise UsageError(f"no method {name!r}; there are {', '.join(METHODS)}")
    method = METHODS[name]
    if method.kind is None or method.checkpoints != "last":
        raise UsageError(
            f"method {name} needs more than the fingerprints of one model, which is all that a bank of your own model "
            "keeps; take companion or influence"
        )
    return method


def _asked(bank: OwnBank, split: Split) -> EvaluationSet:
    queries = tuple(query for query in bank.queries if query.split == split and query.kind in KINDS)
    songs = tuple(range(len(bank.learned)))
    return EvaluationSet(WHOLE, split, songs, len(songs), queries, ())


def _scores(method: Method, channel: Channel, made: Fingerprints, n_songs: int) -> np.ndarray:
    """Score all songs for every other piece, float64 `[Q + C, N]`."""
    songs, others = (_features(made, channel, where) for where in (slice(n_songs), slice(n_songs, None)))
    return attribute(cache(method, songs), others)


def _features(made: Fingerprints, channel: Channel, where: slice) -> Features:
    p = made.probabilities
    return Features(
        made.vectors[channel][None, where],
        made.norms[channel][None, where],
        made.blocks[channel],
        probabilities_Cn=None if p is None else p[None, where],
    )
