"""Attribution by forgetting, measured on a ground-truth bank: the tables of docs/unlearning.md.

    uv run --no-sync python -m benchmarks.unlearning measure     every table that docs/unlearning.json lacks
    uv run --no-sync python -m benchmarks.unlearning write       docs/unlearning.md's tables from that file

One process and one core. A table is written down once it is done, so that an interrupted run goes on. What is chosen is
chosen on dev; test is reported. Of every song and query, all methods see the first 10 s.
"""

import json
import resource
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from scipy.stats import spearmanr
from torch import Tensor

from benchmarks.environment import describe_machine
from benchmarks.unlearning_tables import write_tables
from lumina_ray.files import atomic_path
from lumina_ray.fingerprint.companion_statistics import measure_companions
from lumina_ray.fingerprint.music_statistics import measure_music_statistics
from lumina_ray.methods import METHODS
from lumina_ray.model import open_model, open_music_model
from lumina_ray.model.determinism import pin_numerics
from lumina_ray.model.fisher import load_fisher, save_fisher
from lumina_ray.model.sampling import sample
from lumina_ray.model.transformers_adapter import TransformersMusicGen
from lumina_ray.truth.bank import SHIPPED, Bank, load_bank
from lumina_ray.truth.corpus import members
from lumina_ray.truth.evaluation_set import evaluation_set
from lumina_ray.truth.fingerprints import FingerprintKey, Fingerprints, companion_names, fingerprint_pieces
from lumina_ray.truth.measures import Draws, Resampled, datamodel_scores, draw_again, lds_in_draws, mean
from lumina_ray.truth.models import with_weights
from lumina_ray.truth.queries import QUERY_FRAMES, TRAINED_FRAMES, Query, Split
from lumina_ray.truth.scores import BOTH, scores, standardised
from lumina_ray.truth.unlearning import (
    Gradients,
    beginnings,
    correlations,
    first_order_scores,
    forgetting_and_retraining,
    half_silent,
    metric,
    model_with_fisher,
    query_codes,
    ranks_of_own_song,
    root_mean_square,
)
from lumina_ray.unlearning.fisher import fisher_diagonal
from lumina_ray.unlearning.forget import FORGET_NATS, FORGET_STEPS
from lumina_ray.unlearning.losses import code_losses
from lumina_ray.unlearning.scores import SCORES, Rises, first_order, rises
from lumina_ray.unlearning.select import LAYERS, Layers
from lumina_ray.unlearning.unlearn import DAMPING, TRUST_NATS, Forgetting, unlearned
from lumina_ray.vocabulary import CHANNELS, SAMPLE_RATE_HZ, SongCodes

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False)
PAGE = Path(__file__).parents[1] / "docs" / "unlearning.md"
RESULTS = PAGE.with_suffix(".json")
KEPT = Path(__file__).parent / "results" / "unlearning"

DAMPINGS: tuple[float | None, ...] = (None, 1e-2, 1e-4)
NATS = (TRUST_NATS, 0.05, 0.3)
# Two groups of queries: unheard excerpts of catalog songs, and the model's continuations of them.
GROUPS: dict[str, tuple[str, ...]] = {"excerpts": ("excerpt",), "continuations": ("prompted", "continued")}
_RIVALS = ("companion", "influence", "head-gradient", "stats", "tokens")
_K = 10
_CURVE_RANKS = (1, 2, 5, 10, 26, 52, 104)


@dataclass(frozen=True)
class Sizes:
    """How much is measured.

    Attributes:
        exact: test queries of each group that are forgotten by steps.
        trust_queries: dev queries of each group, and catalog songs, that are forgotten by steps of several lengths.
        trust_songs, self_songs: songs that are compared for these, and for the rank of a song itself.
        forgotten: songs that are forgotten beside a training without them.
        judged: queries that either is judged by.
        forget_nats: how far the songs' loss rises.
    """

    exact: int
    trust_queries: int
    trust_songs: int
    self_songs: int
    forgotten: int
    judged: int
    forget_nats: tuple[float, ...]


FULL = Sizes(
    exact=12,
    trust_queries=2,
    trust_songs=104,
    self_songs=104,
    forgotten=8,
    judged=64,
    forget_nats=(TRUST_NATS, FORGET_NATS),
)
SMALL = Sizes(
    exact=4, trust_queries=1, trust_songs=35, self_songs=35, forgotten=6, judged=12, forget_nats=(FORGET_NATS,)
)


class Measured:
    """A bank's audited model, its songs and queries, and what several tables need of them; made when first asked for.

    Attributes:
        kept: folder of scores that took long.
    """

    def __init__(self, folder: Path, sizes: Sizes, kept: Path) -> None:
        self.bank: Bank = load_bank(folder)
        self.sizes = sizes
        self.kept = kept
        self.catalog = members(self.bank.recordings, "A")

    @cached_property
    def model(self) -> TransformersMusicGen:
        path = self.kept / "fisher.npz"
        if path.exists():
            model = with_weights(self.bank.recipe, self.bank.models["A"], self.bank.text)
            model.fisher = load_fisher(path)
            return model
        model = model_with_fisher(self.bank, "A", self.catalog, QUERY_FRAMES)
        assert model.fisher is not None
        save_fisher(model.fisher, path)
        return model

    @cached_property
    def songs(self) -> list[SongCodes]:
        return beginnings(self.bank, self.model, self.catalog, QUERY_FRAMES)

    @cached_property
    def before(self) -> list[np.ndarray]:
        """Losses of the songs."""
        return [code_losses(self.model, song) for song in self.songs]

    def queries(self, split: Split) -> list[Query]:
        """Excerpts, then continuations."""
        of = [query for query in self.bank.queries if query.split == split and query.model == "A"]
        return [query for kinds in GROUPS.values() for query in of if query.kind in kinds]

    def codes(self, queries: Sequence[Query]) -> list[SongCodes]:
        return [query_codes(query, self.model.frame_rate_hz) for query in queries]

    @cache  # noqa: B019  # There is one of these objects, and it lives as long as the process.
    def gradients(self, pieces: str) -> Gradients:
        """By every weight: of the songs ("songs"), or of a split's queries."""
        return Gradients(self.model, self.songs if pieces == "songs" else self.codes(self.queries(pieces)))  # type: ignore[arg-type]

    def first_order(self, split: str, layers: Layers, damping: float | None) -> np.ndarray:
        """Scores by the loss of all codebooks, float64 `[Q, N]`."""
        of_metric = metric(self.model, layers, damping)
        return first_order_scores(self.gradients(split).of(layers), self.gradients("songs").of(layers), of_metric)

    def first_order_both(self, split: str, damping: float) -> np.ndarray:
        """Scores by the output heads, of either channel's codebooks, standardised and added up: float64 `[Q, N]`."""
        queries, songs = (self.gradients(name).of("heads") for name in (split, "songs"))
        of_metric = metric(self.model, "heads", damping)
        # A head has the loss of its own codebook alone.
        first = queries.shape[1] // self.model.n_codebooks
        parts = (slice(first), slice(first, None))
        return np.sum(
            [standardised(first_order_scores(queries[:, of], songs[:, of], of_metric[of])) for of in parts], axis=0
        )

    @cached_property
    def exact_places(self) -> list[int]:
        """Places, among the test queries, of those that are forgotten by steps: the first ones of each group."""
        queries = self.queries("test")
        return [q for kinds in GROUPS.values() for q in _of(queries, kinds)[: self.sizes.exact]]

    def judge(self, split: Split, scores_QN: np.ndarray, places: Sequence[int] | None = None) -> dict[str, Resampled]:
        """LDS of each group of a split's queries, in the same draws whatever the scores.

        Args:
            scores_QN: of the queries at `places`, all by default.
        """
        places = tuple(range(len(self.queries(split))) if places is None else places)
        return {
            name: lds_in_draws(scores_QN[rows], masks_RN, losses_RQ, draws)
            for name, (rows, masks_RN, losses_RQ, draws) in self._questions(split, places).items()
        }

    @cache  # noqa: B019  # As above.
    def _questions(
        self, split: Split, places: tuple[int, ...]
    ) -> dict[str, tuple[list[int], np.ndarray, np.ndarray, Draws]]:
        """For each group: positions among some places of its queries, models' songs and losses, and draws."""
        queries, halves = self.queries(split), self.bank.of_kind("half")
        masks_RN = self.bank.masks(halves, self.catalog)
        out = {}
        for name, kinds in GROUPS.items():
            rows = [row for row, q in enumerate(places) if queries[q].kind in kinds]
            asked = [queries[places[row]] for row in rows]
            losses_RQ = self.bank.losses_RQK[halves][:, self.bank.columns(asked)].mean(axis=2, dtype=np.float64)
            draws = draw_again(len(halves), [query.caption or query.recording for query in asked])
            out[name] = (rows, masks_RN, losses_RQ, draws)
        return out

    def lds(self, split: Split, scores_QN: np.ndarray) -> dict[str, float]:
        """LDS of each group, without intervals."""
        queries, halves = self.queries(split), self.bank.of_kind("half")
        masks_RN = self.bank.masks(halves, self.catalog)
        losses_RQ = self.bank.losses_RQK[halves][:, self.bank.columns(queries)].mean(axis=2, dtype=np.float64)
        of_Q = datamodel_scores(scores_QN, masks_RN, losses_RQ)
        return {name: float(of_Q[_of(queries, kinds)].mean()) for name, kinds in GROUPS.items()}

    def forgotten(self, query: SongCodes, how: Forgetting) -> Rises:
        """Rises of the songs' losses."""
        assert self.model.fisher is not None
        return rises(self.model, query, self.songs, self.before, self.model.fisher, how)[0]

    def keep(self, name: str, arrays: dict[str, np.ndarray]) -> None:
        """Write scores to the folder."""
        with atomic_path(self.kept / f"{name}.npz") as temporary, temporary.open("wb") as file:
            np.savez(file, allow_pickle=False, **arrays)

    def read(self, name: str) -> dict[str, np.ndarray]:
        """Read what `keep` wrote."""
        with np.load(self.kept / f"{name}.npz") as arrays:
            return {key: arrays[key] for key in arrays.files}


def _of(queries: Sequence[Query], kinds: Sequence[str]) -> list[int]:
    return [q for q, query in enumerate(queries) if query.kind in kinds]


def _estimates(judged: dict[str, Resampled]) -> dict[str, dict[str, float]]:
    return {name: asdict(of.estimate) for name, of in judged.items()}


def choose(of: Measured, _: dict) -> dict:
    """On dev: LDS to first order by layers and damping. The best mean of both groups is chosen."""
    rows: list[dict[str, Any]] = []
    for layers in LAYERS:
        for damping in DAMPINGS:
            found = of.lds("dev", of.first_order("dev", layers, damping))
            rows.append({"layers": layers, "damping": damping, **found})
    damped = [row for row in rows if row["damping"] is not None]
    best = max(damped, key=lambda row: row["excerpts"] + row["continuations"])
    return {"rows": rows, "layers": best["layers"], "damping": best["damping"]}


def exact(of: Measured, results: dict) -> dict:
    """On test: scores of some queries by steps, with the layers and damping that were chosen."""
    how = Forgetting(layers=results["choose"]["layers"], damping=results["choose"]["damping"])
    queries = of.codes([of.queries("test")[q] for q in of.exact_places])
    assert of.before
    begin_s = time.process_time()
    found = [of.forgotten(query, how) for query in queries]
    seconds = (time.process_time() - begin_s) / len(queries)
    begin_s = time.process_time()
    for song in of.songs:
        code_losses(of.model, song)
    pass_s = time.process_time() - begin_s
    of.keep(
        "exact",
        {
            score: np.sum([standardised(np.array([one.of(score, c) for one in found])) for c in CHANNELS], axis=0)
            for score in SCORES
        },
    )
    return {"how": asdict(how), "queries": len(queries), "seconds": seconds, "pass_s": pass_s}


def rivals(of: Measured, _: dict) -> dict:
    """On test: scores of other methods, both channels added up; processor time of a song."""
    queries = of.queries("test")
    asked = replace(
        evaluation_set(of.bank, "A", "test", None), songs=tuple(of.catalog), queries=tuple(queries), controls=()
    )
    pieces = [*of.songs, *of.codes(queries)]
    found, seconds = {}, {}
    for name in _RIVALS:
        model = with_weights(of.bank.recipe, of.bank.models["A"], of.bank.text)
        if name == "influence":
            measure_music_statistics(model, lambda: of.songs, range(len(of.songs)))
        if name == "companion":
            beside = [
                with_weights(of.bank.recipe, of.bank.models[one], of.bank.text) for one in companion_names(of.bank, "A")
            ]
            measure_companions(model, beside, of.songs, range(len(of.songs)))
        method = METHODS[name]
        assert method.source is not None
        made: dict[FingerprintKey, Fingerprints] = {
            ("A", "A", method.source): fingerprint_pieces(model, method.source, pieces, with_losses=method.residual)
        }
        found[name] = scores(of.bank, method, BOTH, asked, len(asked.songs), made)
        seconds[name] = made["A", "A", method.source].seconds_per_song * QUERY_FRAMES / TRAINED_FRAMES
    of.keep("rivals", found)
    return {"seconds": seconds}


def report(of: Measured, results: dict) -> dict:
    """On test: LDS of every row with its interval, and how far it is ahead of two fingerprints in the same draws."""
    damping = results["choose"]["damping"]
    rows: list[dict] = []
    all_rivals, by_steps = of.read("rivals"), of.read("exact")
    compared = {name: of.judge("test", all_rivals[name]) for name in ("influence", "companion")}

    def row(name: str, scores_QN: np.ndarray, places: Sequence[int] | None = None) -> None:
        judged = of.judge("test", scores_QN, places)
        against = compared if places is None else {n: of.judge("test", all_rivals[n][places], places) for n in compared}
        ahead = {
            n: {group: asdict((judged[group] - other[group]).estimate) for group in judged}
            for n, other in against.items()
        }
        rows.append({"name": name, "queries": len(scores_QN), "lds": _estimates(judged), "ahead": ahead})

    for score in SCORES:
        row(f"steps, {score}", by_steps[score], of.exact_places)
    row("first order, the same queries", of.first_order_both("test", damping)[of.exact_places], of.exact_places)
    row("first order, heads, P+M", of.first_order_both("test", damping))
    for layers in LAYERS:
        row(f"first order, {layers}", of.first_order("test", layers, damping))
        row(f"first order, {layers}, no F", of.first_order("test", layers, None))
    for name, values in all_rivals.items():
        row(name, values)
    return {"rows": rows}


def self_influence(of: Measured, _: dict) -> dict:
    """Rank of a song once it is forgotten itself, to first order; songs are 5 s of music and 5 s of silence."""
    silence_KT = open_music_model("nano").encode(np.zeros(10 * SAMPLE_RATE_HZ, np.float32)).cpu().numpy()
    songs = of.songs[:: -(-len(of.songs) // of.sizes.self_songs)]
    made = {
        masked: Gradients(of.model, [half_silent(song, silence_KT, masked=masked) for song in songs])
        for masked in (True, False)
    }
    rows = []
    masks = {"neither": (False, False), "M_U": (True, False), "M_L": (False, True), "both": (True, True)}
    for layers in LAYERS:
        flat = {masked: made[masked].of(layers) for masked in made}
        for damping in (None, DAMPING):
            of_metric = metric(of.model, layers, damping)
            cells = {}
            for name, (forgotten, compared) in masks.items():
                scores_NN = first_order_scores(flat[forgotten], flat[compared], of_metric)
                ranks = ranks_of_own_song(scores_NN, range(len(songs)))
                cells[name] = {"mean": float(ranks.mean()), "first": float((ranks == 1).mean())}
            rows.append({"layers": layers, "fisher": damping is not None} | cells)
    return {"rows": rows, "songs": len(songs)}


def trust(of: Measured, _: dict) -> dict:
    """On dev: steps of several lengths. Agreement with first order, rank of a song itself, harm to other songs."""
    model, queries, n = of.model, of.queries("dev"), of.sizes.trust_queries
    assert model.fisher is not None
    places = [q for kinds in GROUPS.values() for q in _of(queries, kinds)[:n]]
    songs = of.songs[:: -(-len(of.songs) // of.sizes.trust_songs)]
    before = [code_losses(model, song) for song in songs]
    own = list(range(0, len(songs), -(-len(songs) // n)))
    asked = [*of.codes([queries[q] for q in places]), *(songs[i] for i in own)]
    gradients = Gradients(model, [*asked, *songs])
    rows = []
    choices: tuple[Layers, ...] = ("heads", "all")
    for layers in choices:
        flat = gradients.of(layers)
        slopes_QN = first_order_scores(flat[: len(asked)], flat[len(asked) :], metric(model, layers, DAMPING))
        for nats in NATS:
            how = Forgetting(layers=layers, trust_nats=nats)
            found_QN = np.array([rises(model, one, songs, before, model.fisher, how)[0].of() for one in asked])
            agreement = [float(spearmanr(a, b).statistic) for a, b in zip(found_QN, slopes_QN, strict=True)]
            own_QN = found_QN[len(places) :]
            others = [np.delete(row, i).mean() for row, i in zip(own_QN, own, strict=True)]
            rows.append(
                {
                    "layers": layers,
                    "nats": nats,
                    "spearman": float(np.mean(agreement)),
                    "least": float(np.min(agreement)),
                    "ranks": ranks_of_own_song(own_QN, own).tolist(),
                    "others_nats": float(np.mean(others)),
                }
            )
    return {"rows": rows, "queries": len(places), "own": len(own), "songs": len(songs)}


def forget(of: Measured, _: dict) -> dict:
    """Single songs of test forgotten, beside trainings without them: how far losses are from the retrained model's."""
    bank = of.bank
    known = {bank.trainings[row].removed[0]: row for row in bank.of_kind("single")}
    queries = [q for q in bank.queries if q.split == "test" and q.kind in ("excerpt", "catalog")]
    left_out = [known[q.recording] for q in queries if q.kind == "excerpt" and q.recording in known][
        : of.sizes.forgotten
    ]
    # Those of the songs themselves come first.
    removed = {bank.trainings[row].removed[0] for row in left_out}
    queries = sorted(queries, key=lambda query: query.recording not in removed)[: of.sizes.judged]
    summary = []
    for nats in of.sizes.forget_nats:
        how = Forgetting(trust_nats=nats, steps=FORGET_STEPS)
        rows = [asdict(row) for row in forgetting_and_retraining(bank, of.model, left_out, queries, how)]
        means = {name: asdict(mean(np.array([row[name] for row in rows]))) for name in list(rows[0])[2:]}
        summary.append({"nats": nats} | means)
    losses_RQ = bank.losses_RQK[:, bank.columns(queries)].mean(axis=2, dtype=np.float64)
    audited, second = (
        next(row for row, training in enumerate(bank.trainings) if training.name == name) for name in ("A", "A-second")
    )
    return {
        "rows": summary,
        "songs": len(left_out),
        "queries": len(queries),
        "another_seed": root_mean_square(losses_RQ[second] - losses_RQ[audited]),
    }


class Latents:
    """The codec's latents as an embedding: no model of music, but there without a download.

    A second of music is the mean of its frames' latents, 128 numbers with nano's codec; a piece the mean over all.
    """

    def __init__(self) -> None:
        self._codec = open_model("nano").model.audio_encoder  # type: ignore[attr-defined]

    def seconds(self, codes_KT: Tensor, frames: int = 50) -> np.ndarray:
        """Latents of each whole second, float64 `[seconds, D]`."""
        with torch.no_grad():
            latents_DT = self._codec.quantizer.decode(codes_KT[:, None].long())[0]
        D, T = latents_DT.shape
        whole = latents_DT[:, : T // frames * frames].reshape(D, -1, frames)
        return whole.mean(dim=2).T.double().numpy()

    def piece(self, codes: SongCodes) -> np.ndarray:
        """Mean latents of a piece's first chunk, float64 `[D]`."""
        return self.seconds(torch.from_numpy(codes.chunks[0].astype(np.int64))).mean(axis=0)


def frechet_distance(one_nD: np.ndarray, other_mD: np.ndarray) -> float:
    """Fréchet distance of two samples taken for normal ones: `|μ − ν|² + tr(A + B − 2 (AB)^½)` (Heusel et al. 2017)."""
    A, B = (np.cov(values, rowvar=False) for values in (one_nD, other_mD))
    # AB has the eigenvalues of a positive semidefinite matrix; rounding makes some of them negative.
    roots = np.sqrt(np.maximum(np.linalg.eigvals(A @ B).real, 0))
    return float(((one_nD.mean(axis=0) - other_mD.mean(axis=0)) ** 2).sum() + np.trace(A + B) - 2 * roots.sum())


def similarity(of: Measured, results: dict) -> dict:
    """On test: likeness, by the codec's latents, of a query with the songs that a method puts first and last."""
    embed = Latents()
    songs_ND = np.array([embed.piece(song) for song in of.songs])
    queries_QD = np.array([embed.piece(piece) for piece in of.codes(of.queries("test"))])
    centre_D = songs_ND.mean(axis=0)
    units = [(x - centre_D) / np.linalg.norm(x - centre_D, axis=1, keepdims=True) for x in (queries_QD, songs_ND)]
    cosines_QN = units[0] @ units[1].T
    compared, places = _compared(of, results), of.exact_places
    compared["codec latents"] = cosines_QN[places]
    rows = []
    for name, scores_QN in compared.items():
        order_QN = scores_QN.argsort(axis=1)
        ends = {"top": order_QN[:, -_K:], "bottom": order_QN[:, :_K]}
        values = {
            end: np.take_along_axis(cosines_QN[places], at_QK, axis=1).mean(axis=1) for end, at_QK in ends.items()
        }
        rows.append({"name": name} | {end: asdict(mean(of_Q)) for end, of_Q in values.items()})
    pairs = correlations(compared)
    names = list(compared)
    matrix = [[pairs[one, other] for other in names] for one in names]
    curves = {
        name: [float(_normalised(scores_QN)[:, rank - 1].mean()) for rank in _CURVE_RANKS]
        for name, scores_QN in compared.items()
    }
    return {
        "rows": rows,
        "k": _K,
        "queries": len(places),
        "names": names,
        "matrix": matrix,
        "ranks": list(_CURVE_RANKS),
        "curves": curves,
    }


def _compared(of: Measured, results: dict) -> dict[str, np.ndarray]:
    """Scores for the queries that are forgotten by steps, by several methods."""
    damping, places = results["choose"]["damping"], of.exact_places
    layers: tuple[Layers, ...] = ("all", "cross_kv")
    return {
        "forgetting, steps": of.read("exact")["plain"],
        "first order, heads": of.first_order_both("test", damping)[places],
        **{f"first order, {one}": of.first_order("test", one, damping)[places] for one in layers},
        **{name: values[places] for name, values in of.read("rivals").items()},
    }


def _normalised(scores_QN: np.ndarray) -> np.ndarray:
    """Each query's scores from the largest, as parts of the way from its least to its largest one."""
    low_Q1, high_Q1 = scores_QN.min(axis=1, keepdims=True), scores_QN.max(axis=1, keepdims=True)
    return np.sort((scores_QN - low_Q1) / (high_Q1 - low_Q1), axis=1)[:, ::-1]


def generations(of: Measured, results: dict) -> dict:
    """Fréchet distance of what the model makes up before and after it has forgotten a song, by the codec's latents."""
    embed, pieces, model = Latents(), 32, of.model
    assert model.fisher is not None

    def made(first_seed: int) -> np.ndarray:
        codes_BKT = sample(model, QUERY_FRAMES, range(first_seed, first_seed + pieces))
        return np.concatenate([embed.seconds(codes_KT) for codes_KT in codes_BKT])

    catalog = np.concatenate([embed.seconds(torch.from_numpy(s.chunks[0].astype(np.int64))) for s in of.songs])
    before = made(0)
    rows = [{"model": "as it is"} | _distances(before, catalog, before)]
    rows.append({"model": "as it is, other seeds"} | _distances(made(1000), catalog, before))
    damping = results["choose"]["damping"]
    choices: tuple[tuple[Layers, float], ...] = (("heads", TRUST_NATS), ("heads", 0.3))
    for layers, nats in choices:
        with unlearned(model, of.songs[0], model.fisher, Forgetting(layers, nats, damping)):
            after = made(0)
        rows.append({"model": f"a song forgotten, {layers}, {nats:g} nats"} | _distances(after, catalog, before))
    return {"rows": rows, "pieces": pieces}


def _distances(made: np.ndarray, catalog: np.ndarray, before: np.ndarray) -> dict[str, float]:
    return {"to_catalog": frechet_distance(made, catalog), "to_before": frechet_distance(made, before)}


def speed(_: Measured, __: dict, model: str = "nano", songs: int = 4) -> dict:
    """Processor time of forgetting, of comparing losses and of first order; random codes, one core."""
    machine = describe_machine()
    opened = open_music_model(model)
    rng = np.random.default_rng(0)
    clips = [
        SongCodes((rng.integers(0, opened.codebook_size, (opened.n_codebooks, 500)).astype(np.uint16),), (0.0,))
        for _ in range(songs)
    ]
    fisher, fisher_s = _timed(lambda: fisher_diagonal(opened, clips[:2]))
    before, losses_s = _timed(lambda: [code_losses(opened, clip) for clip in clips])
    forgotten_s = {}
    for layers in LAYERS:
        begin_s = time.process_time()
        with unlearned(opened, clips[0], fisher, Forgetting(layers=layers)):
            forgotten_s[layers] = time.process_time() - begin_s
    _, exact_s = _timed(lambda: rises(opened, clips[0], clips, before, fisher))
    _, slopes_s = _timed(lambda: first_order(opened, clips[0], clips, fisher))
    return {
        "machine": machine,
        "model": model,
        "forgotten_s": forgotten_s,
        "fisher_per_s": 2 / fisher_s,
        "losses_per_s": songs / losses_s,
        "exact_s": exact_s,
        "first_order_per_s": songs / slopes_s,
        "pass_s": losses_s,
        "peak_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
    }


def _timed(work: Callable[[], Any]) -> tuple[Any, float]:
    begin_s = time.process_time()
    return work(), time.process_time() - begin_s


TABLES: dict[str, Callable[[Measured, dict], dict]] = {
    "trust": trust,
    "self": self_influence,
    "forget": forget,
    "choose": choose,
    "rivals": rivals,
    "exact": exact,
    "report": report,
    "similarity": similarity,
    "speed": speed,
    "generations": generations,
}


@app.command()
def measure(
    bank: Annotated[Path, typer.Argument(help="A ground-truth bank.")] = SHIPPED,
    results: Annotated[Path, typer.Option(help="The file of results, which lacks what is to be measured.")] = RESULTS,
    table: Annotated[list[str] | None, typer.Option(help="Only these tables; again where they are there.")] = None,
    small: Annotated[bool, typer.Option("--small", help="Fewer queries and songs.")] = False,
    kept: Annotated[Path, typer.Option(help="Folder of scores that later tables are made of.")] = KEPT,
) -> None:
    """Measure the tables that the file of results lacks, and write each down once it is done."""
    pin_numerics()
    found = json.loads(results.read_text("utf-8")) if results.exists() else {}
    of: Measured | None = None
    for name in table or [name for name in TABLES if name not in found]:
        of = of or Measured(bank, SMALL if small else FULL, kept)
        begin_s = time.process_time()
        found[name] = TABLES[name](of, found) | {"cpu_s": round(time.process_time() - begin_s, 1)}
        with atomic_path(results) as temporary:
            temporary.write_text(json.dumps(rounded(found), indent=1) + "\n", encoding="utf-8")
        print(f"{name}: {found[name]['cpu_s']} s", flush=True)


@app.command()
def write(
    results: Annotated[Path, typer.Option(help="The file of results.")] = RESULTS,
    page: Annotated[Path, typer.Option(help="The page whose tables are made anew.")] = PAGE,
) -> None:
    """Write the tables of the page."""
    write_tables(json.loads(results.read_text("utf-8")), page)


def rounded(value: Any) -> Any:
    """All floats with 6 significant digits: the file is read by people, too."""
    if isinstance(value, dict):
        return {name: rounded(of) for name, of in value.items()}
    if isinstance(value, list):
        return [rounded(of) for of in value]
    return float(f"{value:.6g}") if isinstance(value, float) else value


if __name__ == "__main__":
    app()
