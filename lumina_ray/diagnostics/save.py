"""Diagnoses as files: JSON for machines, a picture for people."""

import json
from collections.abc import Sequence
from pathlib import Path

from lumina_ray.diagnostics.diagnosis import Diagnosis, as_dict
from lumina_ray.files import atomic_path


def save_diagnoses(found: Sequence[Diagnosis], folder: Path) -> None:
    """Write `diagnosis.json` and `diagnosis.png`."""
    from lumina_ray.diagnostics.plot import plot_diagnoses

    folder.mkdir(parents=True, exist_ok=True)
    with atomic_path(folder / "diagnosis.json") as temporary:
        body = {"channels": [as_dict(one) for one in found]}
        temporary.write_text(json.dumps(body, sort_keys=True, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    with atomic_path(folder / "diagnosis.png") as temporary:
        plot_diagnoses(found, temporary)
