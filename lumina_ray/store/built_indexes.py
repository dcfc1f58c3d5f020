"""The list of index folders that were built from a living catalog, so that they can be told of removed songs."""

import json
from pathlib import Path

from lumina_ray.store.run import write_json

INDEXES_FILE = "indexes.json"


def register_index(catalog: Path, index: Path) -> None:
    """Add an index folder to the list of those that were built from a catalog."""
    known = indexes(catalog)
    if index.resolve() not in known:
        write_json(catalog / INDEXES_FILE, {"indexes": [str(path) for path in (*known, index.resolve())]})


def indexes(catalog: Path) -> list[Path]:
    """Index folders that were built from a catalog; some may no longer be there."""
    file = catalog / INDEXES_FILE
    return [Path(path) for path in json.loads(file.read_text(encoding="utf-8"))["indexes"]] if file.exists() else []
