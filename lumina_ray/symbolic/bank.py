"""A symbolic bank: losses of queries under models that were retrained on halves, and the gradients that methods take.

Shape legend: N = pieces, Q = queries, R = retrained models, C = checkpoints, D = numbers of a projected gradient.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from lumina_ray.errors import StoreError
from lumina_ray.files import atomic_path
from lumina_ray.methods import Features
from lumina_ray.symbolic.features import DIMENSIONS
from lumina_ray.symbolic.recipe import SymbolicRecipe

BANK = "bank.npz"
VERSION = 1
SETS = ("whole", "ensemble", "untrained")
"""Gradients that a bank keeps: at the checkpoints of the model of all pieces, of an ensemble of models of random
halves, and of random weights, a floor."""


@dataclass(frozen=True)
class GradientSet:
    """Gradients of pieces and queries under some models.

    Attributes:
        pieces_CND, queries_CQD: float32.
        losses_CN: float64, of the pieces, in nats an event.
    """

    pieces_CND: np.ndarray
    queries_CQD: np.ndarray
    losses_CN: np.ndarray


@dataclass(frozen=True)
class SymbolicBank:
    """Everything that methods are judged by.

    Attributes:
        recipe: what it was made by.
        names: of the pieces.
        features: twelve musical features of the pieces by name, float64 `[N, d]` each.
        kinds: of each query, "excerpt" or "generated".
        of_Q: int64, the piece that each query belongs to.
        masks_RN: bool, the pieces that each retrained model learned from.
        losses_RQ: float64, of the queries under each retrained model, in nats an event.
        whole_Q: float64, under the model of all pieces.
        untrained_Q: float64, under random weights.
        rates_C: float64, learning rates at the checkpoints of the model of all pieces.
        classes_N, classes_Q: float64 `[N, 12]` and `[Q, 12]`, shares of the notes by pitch class.
        gradients: by the names of `SETS`.
    """

    recipe: SymbolicRecipe
    names: tuple[str, ...]
    features: dict[str, np.ndarray]
    kinds: tuple[str, ...]
    of_Q: np.ndarray
    masks_RN: np.ndarray
    losses_RQ: np.ndarray
    whole_Q: np.ndarray
    untrained_Q: np.ndarray
    rates_C: np.ndarray
    classes_N: np.ndarray
    classes_Q: np.ndarray
    gradients: dict[str, GradientSet]

    def places(self, kind: str) -> list[int]:
        """Numbers of the queries of a kind."""
        return [q for q, one in enumerate(self.kinds) if one == kind]

    def both(self, name: str, places: list[int]) -> tuple[Features, Features]:
        """Gradients of a set as methods take them: of the pieces, and of some queries."""
        of = self.gradients[name]
        rates_C = self.rates_C if name == "whole" else np.ones(len(of.losses_CN))
        return (
            unit_features(of.pieces_CND, rates_C, np.exp(-of.losses_CN)),
            unit_features(of.queries_CQD[:, places], rates_C),
        )


def unit_features(
    raw_CnD: np.ndarray, rates_C: np.ndarray | None = None, probabilities_Cn: np.ndarray | None = None
) -> Features:
    """Give vectors with their lengths apart, as methods take them. A vector of zeros stays one."""
    norms_Cn = np.linalg.norm(raw_CnD.astype(np.float64), axis=2)
    unit_CnD = raw_CnD / np.where(norms_Cn > 0, norms_Cn, 1)[..., None]
    return Features(unit_CnD.astype(np.float32), norms_Cn, 1, rates_C, probabilities_Cn)


def save_bank(bank: SymbolicBank, folder: Path) -> None:
    """Write `bank.npz`."""
    arrays = {
        name: getattr(bank, name)
        for name in ("of_Q", "masks_RN", "losses_RQ", "whole_Q", "untrained_Q", "rates_C", "classes_N", "classes_Q")
    }
    arrays |= {f"features/{name}": values for name, values in bank.features.items()}
    for name, of in bank.gradients.items():
        arrays |= {f"gradients/{name}/{part}": values for part, values in asdict(of).items()}
    arrays["about"] = np.array(
        json.dumps({"version": VERSION, "recipe": asdict(bank.recipe), "names": bank.names, "kinds": bank.kinds})
    )
    with atomic_path(folder / BANK) as temporary, temporary.open("wb") as file:
        np.savez(file, **arrays)


def load_bank(folder: Path) -> SymbolicBank:
    """Read a bank that `save_bank` wrote.

    Raises:
        StoreError: there is none, it is damaged, or another version made it.
    """
    path = folder / BANK
    again = "build it with `lumina symbolic build`"
    if not path.is_file():
        raise StoreError(f"{folder}: no finished symbolic bank; {again}")
    try:
        with np.load(path) as arrays:
            about = json.loads(str(arrays["about"]))
            if about["version"] != VERSION:
                raise StoreError(f"{path}: is of version {about['version']}, and this is {VERSION}; {again}")
            recipe = about["recipe"] | {"checkpoints": tuple(about["recipe"]["checkpoints"])}
            return SymbolicBank(
                recipe=SymbolicRecipe(**recipe),
                names=tuple(about["names"]),
                kinds=tuple(about["kinds"]),
                features={name: arrays[f"features/{name}"] for name in DIMENSIONS},
                gradients={
                    name: GradientSet(
                        **{part: arrays[f"gradients/{name}/{part}"] for part in GradientSet.__dataclass_fields__}
                    )
                    for name in SETS
                },
                **{
                    name: arrays[name]
                    for name in (
                        *("of_Q", "masks_RN", "losses_RQ", "whole_Q", "untrained_Q", "rates_C"),
                        *("classes_N", "classes_Q"),
                    )
                },
            )
    except StoreError:
        raise
    except Exception as error:
        # NumPy and zipfile raise anything on damaged files.
        raise StoreError(f"{path}: is damaged ({type(error).__name__}: {error}); {again}") from error
