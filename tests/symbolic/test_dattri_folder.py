"""A benchmark in dattri's layout is read as dattri reads it, and everything that is wrong with one is named."""

import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from lumina_ray.errors import StoreError
from lumina_ray.symbolic import dattri, dattri_model
from lumina_ray.symbolic.dattri import read_benchmark
from lumina_ray.symbolic.dattri_model import DattriTransformer, read_model
from tests.symbolic.dattri_folder import (
    GENERATED,
    MODELS,
    QUERIES,
    RETRAINED,
    ROOT,
    SEGMENTS,
    SMALL,
    TRAIN,
    WINDOW,
    random_weights,
    write_benchmark,
)

FULL = ROOT / "models_full/0/model_weights_0.pt"
INDICES, TARGETS = ROOT / "lds/indices_lds.pt", ROOT / "lds/target_values_lds.pt"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_benchmark(tmp_path)
    return tmp_path


def test_segments_are_windows_and_one_event_in_the_order_of_names(folder: Path) -> None:
    # Whatever is in the folder is music, as for dattri; a file that is too short has no segment.
    (folder / TRAIN / "00.pickle").write_bytes(pickle.dumps(list(range(WINDOW))))
    found = read_benchmark(folder, SMALL)
    assert (len(found.full), len(found.half)) == (MODELS, MODELS)
    first, second = (pickle.loads((folder / TRAIN / f"{i}.mid.pickle").read_bytes()) for i in range(2))
    expected = [first[i * WINDOW : (i + 1) * WINDOW + 1] for i in range(5)]
    expected += [second[i * WINDOW : (i + 1) * WINDOW + 1] for i in range(5)]
    np.testing.assert_array_equal(found.segments.events_nT, expected)
    assert found.segments.files == ("0.mid.pickle",) * 5 + ("1.mid.pickle",) * 5
    assert found.segments.drawn == 2
    assert found.queries.files == ("0.mid.pickle",) * 3 + ("1.mid.pickle",) * 2
    indices = torch.load(folder / INDICES)
    assert [set(np.flatnonzero(mask_N)) for mask_N in found.masks_RN] == [set(row.tolist()) for row in indices]
    np.testing.assert_array_equal(found.targets_RQ, torch.load(folder / TARGETS).numpy())


def test_a_file_of_one_segment_begins_where_dattri_begins_it(folder: Path) -> None:
    for path in (folder / GENERATED).iterdir():
        path.unlink()
    for number in range(QUERIES):
        (folder / GENERATED / f"{number}").write_bytes(pickle.dumps([1] * (WINDOW + 1)))
    assert read_benchmark(folder, SMALL).queries.drawn == 0


def test_a_model_has_the_size_of_its_weights(folder: Path) -> None:
    model = read_model(folder / FULL)
    assert (len(model.layers), model.window, model.layers[0].heads) == (2, WINDOW, 2)
    assert not model.training
    assert all(parameter.requires_grad for parameter in model.parameters())
    expected = random_weights(0)["transformer.encoder.layers.1.self_attn.Er"]
    torch.testing.assert_close(model.layers[1].distances_Td.detach(), expected)  # type: ignore[operator]


def test_the_published_size_has_as_many_parameters_as_dattris() -> None:
    with torch.device("meta"):
        model = DattriTransformer(n_layers=6, dim=512, heads=8, feed=1024, window=256)
    assert sum(of.numel() for of in model.parameters()) == 13_115_782


def change_weights(change: Callable[[dict], object]) -> Callable[[Path], None]:
    def changed(folder: Path) -> None:
        weights = torch.load(folder / FULL)
        change(weights)
        torch.save(weights, folder / FULL)

    return changed


def write(path: Path, value: object) -> Callable[[Path], None]:
    return lambda folder: torch.save(value, folder / path)


def write_events(value: object) -> Callable[[Path], None]:
    return lambda folder: (folder / TRAIN / "0.mid.pickle").write_bytes(pickle.dumps(value)) and None


def remove(path: Path) -> Callable[[Path], None]:
    return lambda folder: (folder / path).unlink()


LAYER = "transformer.encoder.layers.0."


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (remove(FULL), "models_full/0/model_weights_0.pt: no such file, and the recipe takes the first 3"),
        (remove(ROOT / "models_half/2/model_weights_0.pt"), "models_half/2/model_weights_0.pt: no such file"),
        (remove(INDICES), "indices_lds.pt: no such file"),
        (remove(TARGETS), "target_values_lds.pt: no such file"),
        (remove(TRAIN / "1.mid.pickle"), "holds 5 segments of 7 events, and the benchmark takes 10"),
        (lambda folder: (folder / TRAIN).rename(folder / "x"), "train: no such folder"),
        (lambda folder: (folder / GENERATED).rename(folder / "x"), "generated_music: no such folder"),
        (lambda folder: [p.unlink() for p in (folder / GENERATED).iterdir()], "generated_music: no file has 7 events"),
        (remove(GENERATED / "1.mid.pickle"), "has the shape (8, 5), but indices_lds.pt has 8 models, and"),
        (lambda folder: (folder / FULL).write_bytes(b"PK"), "0.pt: cannot be read as tensors"),
        (write(FULL, SMALL), "0.pt: cannot be read as tensors (UnpicklingError"),
        (write(FULL, torch.ones(3)), "0.pt: holds no weights by name"),
        (change_weights(lambda of: of.pop("Wout.bias")), "lacks Wout.bias, and is no model"),
        (change_weights(lambda of: of.pop("embedding.weight")), "it lacks embedding.weight"),
        (change_weights(lambda of: of.update({"x": torch.ones(1)})), "has unknown weights x, and is no model"),
        (change_weights(lambda of: of["Wout.bias"].fill_(torch.nan)), "Wout.bias is not finite"),
        (
            change_weights(lambda of: of.update({"Wout.bias": torch.ones(3)})),
            "has the shape (3,) where (390,)",
        ),
        (change_weights(lambda of: of.update({LAYER + "linear1.weight": torch.ones(3)})), "must be matrices"),
        (change_weights(lambda of: of.update({LAYER + "self_attn.Er": torch.ones(6, 3)})), "heads of width 3"),
        (write(INDICES, torch.ones(8, 5)), "must be whole numbers"),
        (write(INDICES, torch.full((8, 5), SEGMENTS)), "segments from 0 to 9, and goes from 10 to 10"),
        (write(INDICES, torch.zeros(8, 5, dtype=torch.long)), "names a segment twice"),
        (write(TARGETS, torch.ones(RETRAINED)), "must be a matrix of real numbers, and is (8,)"),
        (write(TARGETS, [1.0]), "must be a matrix of real numbers, and is list"),
        (write(TARGETS, torch.ones(RETRAINED, 4)), "has the shape (8, 4)"),
        (write_events((1, 2)), "is no list of events from 0 to 388"),
        (write_events([389] * 9), "is no list of events from 0 to 388"),
        (write_events([True] * 9), "is no list of events from 0 to 388"),
        (write_events(Path("x")), "it asks for pathlib."),
        (lambda folder: (folder / TRAIN / "0.mid.pickle").write_bytes(b""), "is no pickled list of events"),
    ],
)
def test_what_is_wrong_is_named_with_its_file_and_what_to_do(
    folder: Path, harm: Callable[[Path], object], message: str
) -> None:
    harm(folder)
    with pytest.raises(StoreError) as caught:
        read_benchmark(folder, SMALL)
    assert message in str(caught.value)
    assert str(folder) in str(caught.value)
    assert "load_benchmark" in str(caught.value)


def test_other_folders_are_no_benchmark(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="give the folder that dattri downloads to"):
        read_benchmark(tmp_path)


def test_files_are_bounded(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module, name, message in (
        (dattri_model, "MAX_FILE_BYTES", "bytes, and 1 can be read"),
        (dattri_model, "MAX_PARAMETERS", "more than 1 numbers"),
        (dattri, "MAX_EVENT_BYTES", "bytes, and 1 can be read"),
        (dattri, "MAX_EVENT_FILES", "has 2 files, and 1 can be read"),
    ):
        with monkeypatch.context() as patched, pytest.raises(StoreError, match=message):
            patched.setattr(module, name, 1)
            read_benchmark(folder, SMALL)
