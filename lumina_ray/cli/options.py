"""Options that several commands have."""

from typing import Annotated, Literal

import typer

JsonOption = Annotated[bool, typer.Option("--json", help="Answer as JSON on standard output.")]
# As `lumina_ray.fingerprint.Kind`, without the seconds that importing it takes.
KindName = Literal["influence", "stats", "jl", "head-gradient", "gradient", "logra", "factgrass", "tokens"]
