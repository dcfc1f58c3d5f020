"""Export in the published format: `signatures.h5`."""

from pathlib import Path

import h5py

from lumina_ray.catalog.files import atomic_path
from lumina_ray.store.read import Store


def export_hdf5(store: Store, path: Path) -> None:
    """Write `signatures_p` and `signatures_m`, float32 `[N, D]`, and `song_ids`, with the specification as attribute.

    Besides what is published: `norms_p` and `norms_m`, float64 `[N]`, the lengths before vectors were made unit.
    Of a store with one channel, that one.

    Written under another name and then renamed: a half-written file is never found under `path`.
    """
    with atomic_path(path) as temporary, h5py.File(temporary, "w") as file:
        for channel in store.specification.channels:
            file[f"signatures_{channel.lower()}"] = store.vectors(channel)
            file[f"norms_{channel.lower()}"] = store.norms(channel)
        file.create_dataset("song_ids", data=store.song_ids, dtype=h5py.string_dtype())
        file.attrs["specification_sha256"] = store.specification.sha256
        file.attrs["fingerprint"] = store.specification.kind
        file.attrs["model"] = store.run.model
