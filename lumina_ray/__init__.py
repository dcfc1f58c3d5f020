"""Which training songs shaped a piece of generated music, by how much, and how sure we are.

    import lumina_ray as lr

    model = lr.open_model("nano")
    print(model.fingerprint("a.flac").similarity(model.fingerprint("b.flac")))

    lr.fingerprint("songs.parquet", out="store")
    lr.fingerprint("controls.parquet", out="controls")
    lr.calibrate("store", controls="controls")
    index = lr.index("store", out="index")
    report = index.attribute("clip.wav")
    report.to_frame("P")

Every path may be a `str` or an `os.PathLike`; stores and indexes may also lie in buckets (`s3://…`, `gs://…`). All
errors that a user can cause are in `lumina_ray.errors`.
"""

from importlib import import_module
from typing import Any

import lazy_loader

__version__ = "0.2.0"

# Its names are in __init__.pyi, and are loaded when they are used: torch, which comes with some, takes seconds.
_from_stub, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)


def __getattr__(name: str) -> Any:
    # Two verbs are packages that can be called (`lumina_ray/callable_package.py`).
    return import_module(f"{__name__}.{name}") if name in ("fingerprint", "index") else _from_stub(name)
