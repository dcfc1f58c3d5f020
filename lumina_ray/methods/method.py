"""The methods of attribution by name: the fingerprint that each method works on, and how it makes scores."""

from dataclasses import dataclass
from typing import Literal

from lumina_ray.embedding.table import EMBEDDERS
from lumina_ray.fingerprint.kinds import find_kind
from lumina_ray.methods.kernel import RIDGE
from lumina_ray.methods.preconditioner import DAMPING
from lumina_ray.vocabulary import Channel, Kind

Checkpoints = Literal["last", "mean", "learning_rate"]
Normalisation = Literal["none", "unit", "standard"]
# Number of songs for the variants that regress on the nearest songs only.
TOP_K = 32


@dataclass(frozen=True)
class Kernel:
    """Kernel regression of the query on catalog songs (`kernel_scores`).

    Attributes:
        ridge: the regression's λ.
        top_k: how many of the most similar songs are regressed on, while all others score 0; None for all songs.
    """

    ridge: float = RIDGE
    top_k: int | None = None


@dataclass(frozen=True)
class Method:
    """How features become scores. Each channel is scored by itself.

    Attributes:
        name: the method's name on the command line and in tables.
        paper: where the method was published.
        kind: kind of fingerprint that the method works on; None where it looks at nothing.
        channels: the channels that the method is defined for.
        checkpoints: how checkpoints are combined: only the last one ("last"), their mean ("mean"), or their sum
            weighted by learning rate ("learning_rate").
        damping: damping of the preconditioner, as a fraction of the second moment's mean eigenvalue; None for no
            preconditioner.
        normalisation: how vectors are scaled after the preconditioner. "none" keeps their lengths; "unit" makes them
            1; "standard" first gives every dimension zero mean and unit variance over the catalog.
        kernel: kernel regression of the query on catalog songs; None for plain inner products.
        residual: whether a song's scores are multiplied by `1 − p`, where p is the probability of its codes; songs
            without a probability keep their scores.
        needs_model: whether every query takes the model itself, which then runs over the catalog; such a method has no
            fingerprint (`lumina_ray.unlearning`).

    Raises:
        ValueError: a preconditioner together with a kernel or with standardised vectors; or a fingerprint of a method
            that needs the model itself.
    """

    name: str
    paper: str
    kind: Kind | None
    channels: tuple[Channel, ...] = ("P", "M")
    checkpoints: Checkpoints = "last"
    damping: float | None = None
    normalisation: Normalisation = "unit"
    kernel: Kernel | None = None
    residual: bool = False
    needs_model: bool = False

    @property
    def source(self) -> str | None:
        """Name of what is made of a catalog and its queries, once for all scores; None where that is nothing.

        A kind of fingerprint, or the method's own name where it needs the model itself.
        """
        return self.name if self.needs_model else self.kind

    def __post_init__(self) -> None:
        if self.needs_model and self.kind is not None:
            raise ValueError(f"{self.name}: a method that needs the model at hand has no fingerprint")
        if self.damping is not None and (self.kernel is not None or self.normalisation == "standard"):
            raise ValueError(f"{self.name}: a preconditioner goes with neither a kernel nor standardised vectors")


_V8, _V7 = "LUMINA v8", "LUMINA v7"
_KERNEL = "; kernel regression"
_UNLEARNING = "Wang et al. 2024, arXiv:2406.09408"
_TRACIN = "Pruthi et al. 2020, arXiv:2002.08484"
_EMBEDDERS_PAPERS = {
    "clap": "Wu et al. 2023, arXiv:2211.06687",
    "clews": "Serrà et al. 2025, arXiv:2502.16936",
    "mert": "Li et al. 2024, arXiv:2306.00107",
    "musicnn": "Pons et al. 2018, arXiv:1711.02520",
}

METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        Method("companion", "ours", "companion"),
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
        Method("unlearning", _UNLEARNING, None, needs_model=True),
        Method("unlearning-linear", _UNLEARNING + ", to first order", "fisher", normalisation="none"),
        Method("tokens", "a floor: codes alone", "tokens", normalisation="standard"),
        Method("random", "a floor: random scores", None),
        Method("codec-activations", "LUMINA, before v7, as we read it", "codec-activations", normalisation="standard"),
        *(Method(f"embedding:{name}", _EMBEDDERS_PAPERS[name], f"embedding:{name}") for name in EMBEDDERS),
    )
}

BY_VECTORS: tuple[str, ...] = tuple(
    name
    for name, method in METHODS.items()
    if not method.needs_model and (method.kind is None or find_kind(method.kind).needs != "codec")
)
"""Names of the methods that compare vectors which a language model or codes give, and that are judged by default.

The others take minutes a query, or a pass of the codec and of an embedder, whose weights may not be at hand.
"""
