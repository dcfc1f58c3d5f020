"""Methods of attribution by name: which fingerprint each works on, and what it does with it."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from lumina_ray.methods.kernel import RIDGE
from lumina_ray.methods.preconditioner import DAMPING

if TYPE_CHECKING:
    from lumina_ray.fingerprint import Channel, Kind

Checkpoints = Literal["last", "mean", "learning_rate"]
Normalisation = Literal["none", "unit", "standard"]
# Of variants that regress on the nearest songs only.
TOP_K = 32


@dataclass(frozen=True)
class Kernel:
    """Kernel regression of the query on catalog songs.

    Attributes:
        top_k: on so many of the most similar ones, and the others score 0; None: on all.
    """

    ridge: float = RIDGE
    top_k: int | None = None


@dataclass(frozen=True)
class Method:
    """How features become scores; each channel is scored by itself.

    Attributes:
        kind: the fingerprint that it works on; None where nothing is looked at.
        channels: those it is defined for.
        checkpoints: the last one, the mean over all, or their sum weighted by learning rate.
        damping: of the inverse second moment of the catalog's vectors, as a fraction of its mean eigenvalue; None for
            no preconditioner.
        normalisation: after the preconditioner. "unit" makes vectors of unit length; "standard" first gives every
            dimension zero mean and unit variance over the catalog.
        residual: scores are multiplied by `1 − p` of the catalog song where its probability is given.
    """

    name: str
    paper: str
    kind: "Kind | None"
    channels: tuple["Channel", ...] = ("P", "M")
    checkpoints: Checkpoints = "last"
    damping: float | None = None
    normalisation: Normalisation = "unit"
    kernel: Kernel | None = None
    residual: bool = False

    def __post_init__(self) -> None:
        if self.damping is not None and (self.kernel is not None or self.normalisation == "standard"):
            raise ValueError(f"{self.name}: a preconditioner goes with neither a kernel nor standardised vectors")


_V8, _V7 = "LUMINA v8", "LUMINA v7"
_KERNEL = "; kernel regression"
_TRACIN = "Pruthi et al. 2020, arXiv:2002.08484"

METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        Method("influence", "ours", "influence"),
        Method("head-gradient", _V7 + ", one tensor", "head-gradient"),
        Method("stats", _V8, "stats"),
        Method("stats-kernel", _V8 + _KERNEL, "stats", kernel=Kernel()),
        Method("stats-kernel-top-k", _V8 + _KERNEL, "stats", kernel=Kernel(top_k=TOP_K)),
        Method("jl", _V7, "jl"),
        Method("jl-kernel", _V7 + _KERNEL, "jl", kernel=Kernel()),
        Method("jl-kernel-top-k", _V7 + _KERNEL, "jl", kernel=Kernel(top_k=TOP_K)),
        Method("grad-dot", "Charpiat et al. 2019, arXiv:2102.05262", "gradient", normalisation="none"),
        Method("grad-cos", "Charpiat et al. 2019, arXiv:2102.05262", "gradient"),
        Method("tracin", _TRACIN, "gradient", checkpoints="learning_rate", normalisation="none"),
        Method(
            "trak",
            "Park et al. 2023, arXiv:2303.14186",
            "gradient",
            checkpoints="mean",
            damping=DAMPING,
            normalisation="none",
            residual=True,
        ),
        Method("logra", "Choe et al. 2024, arXiv:2405.13954", "logra", damping=DAMPING, normalisation="none"),
        Method("factgrass", "Hu et al. 2025, arXiv:2505.18976", "factgrass", damping=DAMPING, normalisation="none"),
        Method("tokens", "a floor: codes alone", "tokens", normalisation="standard"),
        Method("random", "a floor: nothing at all", None),
    )
}
