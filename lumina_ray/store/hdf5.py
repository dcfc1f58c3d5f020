"""Export in the published format: `signatures.h5`."""

import h5py

from lumina_ray.errors import StoreError
from lumina_ray.files import atomic_path
from lumina_ray.storage import AnyPath, locate
from lumina_ray.store.read import Store


def export_hdf5(store: Store, path: AnyPath) -> None:
    """Write `signatures_p` and `signatures_m`, float32 `[N, D]`, and `song_ids`, with the specification as attribute.

    Our addition to the published format: `norms_p` and `norms_m`, float64 `[N]`, the lengths before vectors were made
    unit vectors. A store with one channel gives the datasets of that channel.

    The file is written under another name and then renamed: a half-written file is never found under `path`.

    Raises:
        StoreError: the file cannot be written. As `StorageError`: its bucket does not take it.
    """
    place = locate(path)
    try:
        with atomic_path(place) as temporary, h5py.File(temporary, "w") as file:
            for channel in store.specification.channels:
                file[f"signatures_{channel.lower()}"] = store.vectors(channel)
                file[f"norms_{channel.lower()}"] = store.norms(channel)
            file.create_dataset("song_ids", data=store.song_ids, dtype=h5py.string_dtype())
            file.attrs["specification_sha256"] = store.specification.sha256
            file.attrs["fingerprint"] = store.specification.kind
            file.attrs["model"] = store.run.model
    except OSError as error:
        raise StoreError(f"{place}: cannot be written ({error}); choose another place") from error
