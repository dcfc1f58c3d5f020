"""Forms of Fisher information: against dense matrices, autograd and closed forms; and the table of the page."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from benchmarks import fisher_forms
from benchmarks.fisher_forms import FORMS, RESULTS, Block, Form, blocks_of, drawn_by, scores_by, trial
from benchmarks.unlearning import PAGE
from lumina_ray.model.interface import MusicModel, Prediction
from lumina_ray.unlearning.losses import chunk_gradients
from lumina_ray.unlearning.select import select_parts
from lumina_ray.vocabulary import SongCodes
from tests.benchmarks.test_unlearning import small_measured
from tests.tiny_model import tiny_music_model
from tests.unlearning.test_unlearn import some_songs

SHAPES = ((4, 3), (2, 5))


@pytest.fixture(scope="module")
def model() -> MusicModel:
    return tiny_music_model(1)


def random_block(shape: tuple[int, int], weights_n: Tensor, generator: torch.Generator) -> Block:
    M, D = shape
    roots = [torch.randn(n, n + 1, generator=generator, dtype=torch.float64) for n in (D, M)]
    return Block(torch.randn(len(weights_n), M, D, generator=generator), weights_n, *(root @ root.T for root in roots))


def dense(block: Block, form: Form) -> np.ndarray:
    """F of one block, `[d, d]`."""
    flat_nd = block.gradients_nMD.flatten(1).double().numpy()
    second = np.einsum("n,nd,ne->de", block.weights_n.numpy(), flat_nd, flat_nd)
    if form == "identity":
        return np.eye(len(second))
    if form == "diagonal":
        return np.diag(np.diag(second))
    kronecker = np.kron(block.output_MM.numpy(), block.input_DD.numpy())
    if form == "kfac":
        return kronecker
    vectors = np.kron(*(np.linalg.eigh(moment.numpy())[1] for moment in (block.output_MM, block.input_DD)))
    return vectors @ np.diag(np.diag(vectors.T @ second @ vectors)) @ vectors.T


@pytest.mark.parametrize("form", [*FORMS, "identity"])
def test_scores_are_those_of_dense_matrices(form: Form) -> None:
    generator = torch.Generator().manual_seed(0)
    weights_n = torch.tensor([0.1, 0.2, 0.3, 0.25, 0.15], dtype=torch.float64)
    blocks = [random_block(shape, weights_n, generator) for shape in SHAPES]
    queries, songs = ([torch.randn(n, *shape, generator=generator) for shape in SHAPES] for n in (2, 6))
    q_Qd, z_Nd, chunks_nd = (
        torch.cat([values.flatten(1) for values in of], dim=1).double().numpy()
        for of in (queries, songs, [block.gradients_nMD for block in blocks])
    )
    if form == "whole":
        F = np.einsum("n,nd,ne->de", weights_n.numpy(), chunks_nd, chunks_nd)
        mean = np.trace(F) / len(weights_n)
    else:
        F = np.zeros((22, 22))
        F[:12, :12], F[12:, 12:] = (dense(block, form) for block in blocks)
        mean = np.trace(F) / 22
    for damping, found in scores_by(blocks, form, queries, songs).items():
        expected = damping * mean * q_Qd @ np.linalg.solve(F + damping * mean * np.eye(22), z_Nd.T)
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())


def test_chunks_gradients_are_autograds_and_factors_those_of_the_heads(model: MusicModel) -> None:
    heard_T = np.arange(40) % 7 > 0
    songs = [some_songs(1, 0)[0], SongCodes(some_songs(1, 1)[0].chunks, (0.0,), (heard_T,))]
    parts = [part for layers in ("heads", "layers") for part in select_parts(model, layers)]  # type: ignore[arg-type]
    blocks = blocks_of(model, songs, [part.parameter for part in parts], "songs")
    counts = []
    for n, song in enumerate(songs):
        ((count, gradients),) = chunk_gradients(model, song, parts)
        counts.append(count)
        for block, gradient in zip(blocks, gradients, strict=True):
            torch.testing.assert_close(block.gradients_nMD[n], gradient, rtol=1e-3, atol=1e-7)
    np.testing.assert_allclose(blocks[0].weights_n, np.array(counts) / sum(counts))
    # The gradient of a head's logits is softmax less one-hot, over the codes and the codebooks that the loss is of.
    input_DD, output_MM, steps = torch.zeros(32, 32), torch.zeros(512, 512), 0
    for song, count in zip(songs, counts, strict=True):
        codes_1KT = torch.from_numpy(song.chunks[0].astype(np.int64))[None]
        with torch.no_grad():
            prediction = model.predict(codes_1KT, [40]).of(torch.from_numpy(song.heard[0])[None])
        valid_T = prediction.valid_BKT[0, 1]
        hidden_SD = prediction.hidden_BKTD[0, 1][valid_T]
        error_SC = prediction.logits_BKTC[0, 1][valid_T].softmax(dim=1)
        error_SC[range(len(error_SC)), codes_1KT[0, 1][valid_T]] -= 1
        error_SC /= 4 * len(error_SC)
        input_DD += hidden_SD.T @ hidden_SD
        output_MM += count * error_SC.T @ error_SC
        steps += len(hidden_SD)
    torch.testing.assert_close(blocks[1].input_DD.float(), input_DD / steps, rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(blocks[1].output_MM.float(), output_MM / sum(counts), rtol=1e-3, atol=1e-8)


def test_kronecker_product_is_exact_for_one_step(model: MusicModel) -> None:
    # One frame leaves the first codebook one step: its gradient is an outer product, and so is the second moment.
    song = SongCodes(tuple(chunk[:, :4] for chunk in some_songs(1)[0].chunks), (0.0,))
    (block,) = blocks_of(model, [song], [select_parts(model, "heads")[3].parameter], "songs")
    gradient_d = block.gradients_nMD[0].flatten().double()
    torch.testing.assert_close(block.spectrum("kfac").sum(), gradient_d.square().sum(), rtol=1e-4, atol=0)
    torch.testing.assert_close(block.spectrum("kfac").max(), gradient_d.square().sum(), rtol=1e-4, atol=0)


def test_models_labels_are_drawn_from_its_predictions(model: MusicModel, monkeypatch: pytest.MonkeyPatch) -> None:
    codes_BKT = torch.zeros((1, 4, 500), dtype=torch.int64)
    odds = torch.tensor([0.7, 0.2, 0.1])
    logits_BKTC = odds.log().expand(1, 4, 500, 3).contiguous()
    prediction = Prediction(logits_BKTC, torch.zeros(1, 4, 500, 1), torch.ones(1, 4, 500, dtype=torch.bool))
    monkeypatch.setattr(model, "predict", lambda *_: prediction)
    losses = drawn_by(model, 0)(codes_BKT, [500], None)
    expected = -(odds * odds.log()).sum()
    assert losses.values_BKT.mean() == pytest.approx(float(expected), abs=0.05)
    assert torch.equal(losses.values_BKT, drawn_by(model, 0)(codes_BKT, [500], None).values_BKT)
    assert not torch.equal(losses.values_BKT, drawn_by(model, 1)(codes_BKT, [500], None).values_BKT)


def test_a_trial_compares_every_form_with_the_project_s_diagonal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lumina_ray.truth.measures.DRAWS", 20)
    monkeypatch.setattr(fisher_forms, "DAMPINGS", (1e-3, 1e-4))
    of = small_measured(tmp_path)
    rows = trial(of, "heads")
    assert [(row["labels"], row["form"]) for row in rows] == list(fisher_forms._TRIED)
    assert rows[0]["ahead"]["excerpts"] == {"value": 0, "low": 0, "high": 0}
    assert rows[1]["ahead_of_heads"] == rows[1]["ahead"]
    # Another path to the diagonal: `lumina fisher`'s sums, and the metric of benchmarks.unlearning.
    expected = of.lds("dev", of.first_order("dev", "heads", 1e-4))
    assert rows[0]["grid"]["0.0001"] == pytest.approx(expected)
    assert rows[-1]["grid"]["0.0001"] == pytest.approx(of.lds("dev", of.first_order("dev", "heads", None)))
    ahead = rows[1]["ahead"]["excerpts"]["value"]
    assert ahead == pytest.approx(rows[1]["lds"]["excerpts"]["value"] - rows[0]["lds"]["excerpts"]["value"])


def test_the_page_has_the_table_of_its_results() -> None:
    text = PAGE.read_text("utf-8")
    assert fisher_forms.with_table(json.loads(RESULTS.read_text("utf-8")), text) == text
