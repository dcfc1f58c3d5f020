"""Jobs that run the library on a Ray cluster. No mathematics: the workers are plain callables of `lumina_ray`."""

import os

# Read when ray is first imported. Otherwise `uv run lumina …` would make Ray copy the current folder, whatever is in
# it, into a package of its own and start every worker through uv; workers run in this environment anyway.
os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
