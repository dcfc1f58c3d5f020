"""What importing `cluster` settles about Ray."""

import os
import subprocess
import sys

import pytest


@pytest.mark.parametrize("first", ["import ray, cluster", "import cluster, ray"])
def test_uv_does_not_come_between_ray_and_its_workers(first: str) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    program = f"{first}\nfrom ray._private import ray_constants\nprint(ray_constants.RAY_ENABLE_UV_RUN_RUNTIME_ENV)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment, timeout=60)
    assert done.stdout == "False\n", done.stderr
