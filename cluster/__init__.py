"""Jobs that run the library on a Ray cluster. No mathematics: the workers are plain callables of `lumina_ray`."""

import os
import sys

# Otherwise `uv run lumina …` would make Ray copy the current folder, whatever is in it, into a package of its own and
# start every worker through uv there, where Ray may not even be found; workers run in this environment anyway.
os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
if "ray" in sys.modules:  # It reads the former when it is imported, which others may have done before us.
    from ray._private import ray_constants

    ray_constants.RAY_ENABLE_UV_RUN_RUNTIME_ENV = ray_constants.env_bool("RAY_ENABLE_UV_RUN_RUNTIME_ENV", False)
