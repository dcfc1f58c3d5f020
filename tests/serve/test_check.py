"""Serve configs: Ray accepts misspelt keys without a word, `serve.check` does not."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from ray.serve.schema import ServeDeploySchema

import serve
from lumina_ray.errors import UsageError
from serve.check import check_config

EXPORTER = "tests.serve.tracing:to_the_console"
EXAMPLE = Path(serve.__file__).with_name("config.yaml")


def test_the_production_example_is_good() -> None:
    config = check_config(EXAMPLE)
    (application,) = config.applications
    assert application.import_path == "serve.app:build"
    # Otherwise Ray's plain text would come before the application's own answer.
    assert config.http_options.request_timeout_s > application.args["request_timeout_s"]
    assert config.http_options.host == "127.0.0.1"


@pytest.mark.parametrize(
    ("place", "key", "value", "named"),
    [
        ((), "proxy_locations", "EveryNode", "proxy_locations"),
        (("http_options",), "request_timeout", 3, "http_options.request_timeout"),
        (("applications", 0), "import_paths", "x", r"applications\[0\].import_paths"),
        (
            ("applications", 0, "deployments", 0),
            "max_ongoing_request",
            3,
            r"deployments\[0\].max_ongoing_request",
        ),
        (
            ("applications", 0, "deployments", 0, "ray_actor_options"),
            "num_gpu",
            1,
            "ray_actor_options.num_gpu",
        ),
        (("applications", 0, "args"), "topk", 3, "topk: Extra inputs"),
        (("applications", 0, "args"), "top_k", "many", "top_k"),
        (("applications", 0), "import_path", "serve.app:built", "leads nowhere"),
        (("applications", 0), "import_path", "serve.apps:build", "leads nowhere"),
        (("applications", 0, "deployments", 0), "name", "Searchers", "no deployment Searchers"),
    ],
)
def test_a_mistake_is_named(tmp_path: Path, place: tuple, key: str, value: object, named: str) -> None:
    values = yaml.safe_load(EXAMPLE.read_text())
    target = values
    for step in place:
        target = target[step]
    target[key] = value
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump(values))
    with pytest.raises(UsageError, match=named):
        check_config(file)


GOOD = {"index_version": "v0002"}


@pytest.mark.parametrize(
    ("shards", "wishes", "named"),
    [
        (1, {"Searcher": GOOD}, None),
        (1, {"Searcher": {"index_versions": "v0002"}}, "index_versions: Extra inputs"),
        (1, {"Searcher": None}, "user_config of Searcher"),
        (1, {"Gateway": GOOD}, "Gateway takes no user_config"),
        (1, {"Shard-0": GOOD}, "no deployment Shard-0"),
        (2, {"Searcher": GOOD, "Shard-0": GOOD, "Shard-1": GOOD}, None),
        (2, {"Searcher": GOOD, "Shard-0": GOOD}, "the same index_version"),
        (2, {"Searcher": GOOD, "Shard-0": GOOD, "Shard-1": {"index_version": "v0003"}}, "the same index_version"),
    ],
)
def test_the_version_of_the_index_is_checked(tmp_path: Path, shards: int, wishes: dict, named: str | None) -> None:
    values = yaml.safe_load(EXAMPLE.read_text())
    (application,) = values["applications"]
    application["args"]["shards"] = shards
    application["deployments"] = [{"name": name, "user_config": wish} for name, wish in wishes.items()]
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump(values))
    if named is None:
        check_config(file)
        return
    with pytest.raises(UsageError, match=named):
        check_config(file)


def test_tracing_can_be_switched_on(tmp_path: Path) -> None:
    values = yaml.safe_load(EXAMPLE.read_text())
    file = tmp_path / "config.yaml"
    values["tracing_config"] = {"enabled": True, "sampling_ratio": 1.0, "exporter_import_path": EXPORTER}
    file.write_text(yaml.safe_dump(values))
    assert check_config(file).tracing_config.sampling_ratio == 1.0
    values["tracing_config"]["enable"] = True
    file.write_text(yaml.safe_dump(values))
    with pytest.raises(UsageError, match="enable"):
        check_config(file)


def test_ray_traces_with_what_is_installed() -> None:
    code = (
        "from ray.serve._private.tracing_utils import setup_tracing, tracing_decorator_factory as traced\n"
        "assert setup_tracing('Gateway', 'x'), 'not switched on'\n"
        "traced('of a request')(lambda: None)()"
    )
    settings = {"RAY_SERVE_TRACING_EXPORTER_IMPORT_PATH": EXPORTER, "RAY_SERVE_TRACING_SAMPLING_RATIO": "1.0"}
    environment = os.environ | settings | {"PYTHONPATH": os.pathsep.join(sys.path)}
    written = subprocess.run([sys.executable, "-c", code], check=True, env=environment, capture_output=True, text=True)
    assert json.loads(written.stdout)["name"] == "of a request"


def test_open_access_is_for_this_machine_only(tmp_path: Path) -> None:
    values = yaml.safe_load(EXAMPLE.read_text())
    arguments = values["applications"][0]["args"]
    del arguments["keys"]
    arguments["open_access"] = True
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump(values))
    check_config(file)
    for host in ("0.0.0.0", None):
        values["http_options"].pop("host")
        if host:
            values["http_options"]["host"] = host
        file.write_text(yaml.safe_dump(values))
        with pytest.raises(UsageError, match="may let other machines in"):
            check_config(file)
        values["http_options"]["host"] = "127.0.0.1"


def test_the_proxy_must_be_spared_the_headers_of_clients(tmp_path: Path) -> None:
    values = yaml.safe_load(EXAMPLE.read_text())
    file = tmp_path / "config.yaml"
    for options in ({"runtime_env": {"env_vars": {"OTHER": "x"}}}, {"runtime_env": {}}, {}, None):
        values["controller_options"] = options
        file.write_text(yaml.safe_dump(values))
        with pytest.raises(UsageError, match=r"CALLBACK_IMPORT_PATH to serve\.proxy:middlewares"):
            check_config(file)
    del values["controller_options"]
    file.write_text(yaml.safe_dump(values))
    with pytest.raises(UsageError, match="CALLBACK_IMPORT_PATH"):
        check_config(file)


def test_ray_itself_would_accept_a_misspelt_key() -> None:
    # When this fails, Ray has learnt to check and `serve.check` can shrink.
    values = yaml.safe_load(EXAMPLE.read_text())
    values["applications"][0]["deployments"][0]["max_ongoing_request"] = 3
    ServeDeploySchema.model_validate(values)
