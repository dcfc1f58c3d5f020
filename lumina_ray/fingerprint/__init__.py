"""Codes → gradients → one unit vector per channel, under a specification that travels with it."""

import lazy_loader

from lumina_ray.callable_package import make_callable

# The names are listed in __init__.pyi. They are loaded on first use, because some of them load torch for seconds.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
# `lumina_ray.fingerprint(…)` runs a job.
make_callable(__name__, "lumina_ray.front.jobs:fingerprint")
