"""Cluster definitions: what Ray and KubeRay would refuse, and what would only show on a cluster that costs money."""

import hashlib
import importlib
import json
import os
import re
import shlex
import tomllib
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import ray
import typer.main
import yaml  # type: ignore[import-untyped]
from ray.autoscaler._private.util import prepare_config, validate_config
from ray.runtime_env import RuntimeEnv
from ray.scripts import scripts

import cluster
import lumina_ray
from cluster.resources import TASK_CPUS, choose_workers
from lumina_ray.cli.main import app
from serve.check import check_config
from tests.cluster.kuberay import (
    CHECKED,
    RECORD,
    as_json_schema,
    check_against_crd,
    content_sha256,
    crd_path,
    read_manifest,
)

FOLDER = Path(cluster.__file__).parent
ROOT = FOLDER.parent
LAUNCHERS = ("aws.yaml", "gcp.yaml", "onprem.yaml")
PAGE = (ROOT / "docs" / "clusters.md").read_text("utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
CONTAINERFILE = (FOLDER / "container" / "Containerfile").read_text("utf-8")


def _launcher(name: str) -> dict[str, Any]:
    return yaml.safe_load((FOLDER / "launcher" / name).read_text("utf-8"))


def _start_options(command: str) -> dict[str, Any]:
    """Options of a `ray start`; raises click.UsageError for one that it does not have."""
    context = scripts.start.make_context("start", shlex.split(command.partition("ray start ")[2]))
    return {name: value for name, value in context.params.items() if value is not None}


def _starts(config: dict[str, Any]) -> tuple[str, str]:
    return config["head_start_ray_commands"][-1], config["worker_start_ray_commands"][-1]


def _ray_cluster(name: str) -> dict[str, Any]:
    spec = read_manifest(name)["spec"]
    return spec.get("rayClusterSpec") or spec["rayClusterConfig"]


def _groups(name: str) -> list[dict[str, Any]]:
    ray_cluster = _ray_cluster(name)
    return [ray_cluster["headGroupSpec"], *ray_cluster["workerGroupSpecs"]]


def _ports(name: str) -> dict[str, int]:
    """Named ports of the pods of a manifest."""
    containers = [c for group in _groups(name) for c in group["template"]["spec"]["containers"]]
    return {port["name"]: port["containerPort"] for c in containers for port in c.get("ports", [])}


# Ray's cluster launcher


@pytest.mark.parametrize("name", LAUNCHERS)
def test_ray_accepts_a_launcher_file(name: str) -> None:
    config = prepare_config(_launcher(name))
    validate_config(config)
    assert config["head_node_type"] in config["available_node_types"]


def test_ray_refuses_a_misspelt_launcher_key() -> None:
    config = prepare_config(_launcher("aws.yaml") | {"file_mount": {}})
    with pytest.raises(jsonschema.ValidationError, match="file_mount"):
        validate_config(config)


@pytest.mark.parametrize("name", LAUNCHERS)
def test_a_launched_cluster_has_the_token_or_does_not_start(name: str) -> None:
    config = _launcher(name)
    home = f"/home/{config['auth']['ssh_user']}"
    assert config["file_mounts"][f"{home}/.ray/auth_token"] == "~/.ray/auth_token"
    assert all("RAY_AUTH_MODE=token" in command for command in _starts(config))
    # Ray's dashboard, which runs jobs, is reached through SSH alone.
    assert _start_options(_starts(config)[0])["dashboard_host"] in {"localhost", "127.0.0.1"}


@pytest.mark.parametrize("name", LAUNCHERS)
def test_nodes_agree_on_ports_and_the_page_names_them(name: str) -> None:
    head, worker = map(_start_options, _starts(_launcher(name)))
    assert worker["address"] == f"$RAY_HEAD_IP:{head['port']}"
    common = ("object_manager_port", "node_manager_port", "min_worker_port", "max_worker_port", "metrics_export_port")
    assert [worker[key] for key in common] == [head[key] for key in common]
    workers = f"{head['min_worker_port']}–{head['max_worker_port']}"
    single = (head["port"], head["dashboard_port"], *(head[key] for key in common if "_worker_" not in key))
    assert _page_ports() >= {workers, *map(str, single)}


@pytest.mark.parametrize("name", ["aws.yaml", "gcp.yaml"])
def test_launched_workers_are_what_a_job_asks_for(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    config = _launcher(name)
    types = config["available_node_types"]
    workers = types["gpu_worker"]
    # Preflight counts what is there when the job starts.
    assert workers["min_workers"] == workers["max_workers"] == config["max_workers"]
    assert types["head"]["resources"] == {"CPU": _start_options(_starts(config)[0])["num_cpus"]}
    _assert_gpus_are_fed(workers["resources"], config["max_workers"], monkeypatch)


# KubeRay


@pytest.mark.parametrize("name", CHECKED)
def test_a_manifest_is_the_one_that_kuberays_crd_was_seen_to_accept(name: str) -> None:
    record = json.loads(RECORD.read_text("utf-8"))
    assert content_sha256(read_manifest(name)) == record["manifests_sha256"][name], (
        "the manifest was changed: check it against KubeRay's CRDs again, see tests/cluster/kuberay.py"
    )
    assert f"ref=v{record['kuberay']}" in PAGE


@pytest.mark.skipif("KUBERAY_CRDS" not in os.environ, reason="KubeRay's CRDs are not kept here: set KUBERAY_CRDS")
@pytest.mark.parametrize("name", CHECKED)
def test_kuberays_crd_accepts_a_manifest_and_no_misspelt_one(name: str) -> None:
    crds, manifest = Path(os.environ["KUBERAY_CRDS"]), read_manifest(name)
    crd = crd_path(crds, manifest)
    recorded = json.loads(RECORD.read_text("utf-8"))["crds_sha256"][crd.name]
    assert hashlib.sha256(crd.read_bytes()).hexdigest() == recorded
    check_against_crd(manifest, crds)
    manifest["spec"]["suspended"] = True
    with pytest.raises(jsonschema.ValidationError, match="'suspended' was unexpected"):
        check_against_crd(manifest, crds)


def test_a_structural_schema_is_closed_where_kubernetes_drops_fields() -> None:
    schema = as_json_schema(
        {
            "type": "object",
            "properties": {
                "properties": {"type": "string", "nullable": True},
                "cpu": {"anyOf": [{"type": "integer"}, {"type": "string"}], "x-kubernetes-int-or-string": True},
                "labels": {"type": "object", "additionalProperties": {"type": "string"}},
                "free": {"type": "object", "properties": {}, "x-kubernetes-preserve-unknown-fields": True},
            },
        }
    )
    validator = jsonschema.Draft202012Validator(schema)
    good = {"properties": None, "cpu": "4", "labels": {"a": "b"}, "free": {"a": 1}}
    assert validator.is_valid(good)
    assert validator.is_valid(good | {"cpu": 4})
    for bad in ({"propertys": "x"}, {"cpu": 0.5}, {"labels": {"a": 1}}, {"properties": 1}):
        assert not validator.is_valid(good | bad)


@pytest.mark.parametrize("name", CHECKED)
def test_kubernetes_runs_the_pinned_ray_with_a_token(name: str) -> None:
    ray_cluster = _ray_cluster(name)
    assert ray_cluster["rayVersion"] == ray.__version__
    assert f"ray[data,default,serve]=={ray.__version__}" in PROJECT["dependencies"]
    assert ray_cluster["authOptions"] == {"mode": "token"}
    for group in _groups(name):
        (container,) = group["template"]["spec"]["containers"]
        assert container["image"].endswith(f"/lumina-ray:{lumina_ray.__version__}")
        _start_options(shlex.join(["ray start", *(f"--{k}={v}" for k, v in group["rayStartParams"].items())]))


@pytest.mark.parametrize("name", CHECKED)
def test_kubernetes_workers_are_what_a_job_asks_for(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    head, (workers,) = _groups(name)[0], _groups(name)[1:]
    assert head["rayStartParams"]["num-cpus"] == "0"
    assert workers["replicas"] == workers["minReplicas"] == workers["maxReplicas"]
    (container,) = workers["template"]["spec"]["containers"]
    resources = container["resources"]
    assert resources["requests"] == resources["limits"]
    offered = {"CPU": float(resources["limits"]["cpu"]), "GPU": float(resources["limits"]["nvidia.com/gpu"])}
    _assert_gpus_are_fed(offered, workers["replicas"], monkeypatch)


def test_the_rayjobs_entrypoint_is_a_command_that_exists() -> None:
    spec = read_manifest("rayjob.yaml")["spec"]
    parameters = _fingerprint_parameters(spec["entrypoint"])
    assert parameters["device"] == "cuda"
    _assert_on_shared_storage("rayjob.yaml", str(parameters["manifest"]), str(parameters["out"]))


def test_the_rayservice_is_the_serve_config(tmp_path: Path) -> None:
    text = read_manifest("rayservice.yaml")["spec"]["serveConfigV2"]
    (tmp_path / "config.yaml").write_text(text, "utf-8")
    check_config(tmp_path / "config.yaml")
    config, original = yaml.safe_load(text), yaml.safe_load((ROOT / "serve" / "config.yaml").read_text("utf-8"))
    # A loopback address would be the pod's own.
    assert config["http_options"].pop("host") == "0.0.0.0"
    assert original["http_options"].pop("host") == "127.0.0.1"
    assert config == original
    arguments = config["applications"][0]["args"]
    _assert_on_shared_storage("rayservice.yaml", arguments["index"])
    (workers,) = _ray_cluster("rayservice.yaml")["workerGroupSpecs"]
    assert workers["replicas"] == arguments["fingerprinters"]


def test_only_the_ports_that_are_needed_are_open_on_kubernetes() -> None:
    policy = read_manifest("network.yaml")["spec"]
    for name in CHECKED:
        for group in _groups(name):
            labels = group["template"]["metadata"]["labels"]
            assert labels.items() >= policy["podSelector"]["matchLabels"].items()
    ports = _ports("rayjob.yaml") | _ports("rayservice.yaml")
    serve_config = yaml.safe_load(read_manifest("rayservice.yaml")["spec"]["serveConfigV2"])
    assert ports["serve"] == serve_config["http_options"]["port"]
    peers, operator, client = ([port["port"] for port in rule.get("ports", [])] for rule in policy["ingress"])
    assert (peers, operator, client) == ([], [ports["dashboard"], ports["serve"]], [ports["serve"]])
    head = _start_options(_starts(_launcher("aws.yaml"))[0])
    assert (ports["gcs-server"], ports["dashboard"]) == (head["port"], head["dashboard_port"])
    assert _page_ports() >= {str(port) for port in ports.values()}


# Image and runtime environment


def test_the_image_is_made_of_what_is_here() -> None:
    copied = [word for line in re.findall(r"^COPY (.*)$", CONTAINERFILE, re.M) for word in line.split()[:-1]]
    assert set(copied) >= {"pyproject.toml", PROJECT["readme"], *PROJECT["license-files"], *_packages()}
    assert all((ROOT / path).exists() for path in copied)
    assert "uv.lock" not in CONTAINERFILE
    assert set(re.findall(r"--python (\S+)", CONTAINERFILE)) == {"3.11"}
    # A number: Kubernetes cannot tell from a name that it is not root.
    assert int(re.findall(r"^USER (.*)$", CONTAINERFILE, re.M)[-1]) > 0


def test_the_images_cuda_is_torchs() -> None:
    torch_cuda = importlib.import_module("torch").version.cuda
    base = re.search(r"^FROM nvidia/cuda:(\d+\.\d+)\.\d+-base-", CONTAINERFILE, re.M)
    assert base
    assert base[1] == torch_cuda


def test_the_runtime_environment_is_rays() -> None:
    values = yaml.safe_load((FOLDER / "runtime_env.yaml").read_text("utf-8"))
    assert values["working_dir"] == "."
    assert set(values["excludes"]).isdisjoint(_packages())
    # Ray itself accepts any key, with a warning.
    assert set(values) <= RuntimeEnv.known_fields
    RuntimeEnv(**values | {"working_dir": "gcs://checkout.zip"})


# The page


def test_the_pages_jobs_and_files_exist() -> None:
    jobs = re.findall(r"^ *(python -m lumina_ray fingerprint .*)$", PAGE, re.M)
    assert jobs
    for job in jobs:
        _fingerprint_parameters(job)
    named = set(re.findall(r"(?<![\w/])(?:cluster|serve)/[\w./-]+\.\w+", PAGE)) | {"cluster/container/Containerfile"}
    assert all((ROOT / path).exists() for path in named)
    definitions = {path.relative_to(ROOT).as_posix() for path in FOLDER.rglob("*.yaml")}
    assert named >= definitions


def _packages() -> list[str]:
    build = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["hatch"]["build"]
    return build["targets"]["wheel"]["packages"]


def _page_ports() -> set[str]:
    """First column of the page's table of ports."""
    return {port for row in re.findall(r"^\| ([\d–, ]+) \|", PAGE, re.M) for port in row.split(", ")}


def _fingerprint_parameters(command: str) -> dict[str, Any]:
    """The options of `python -m lumina_ray fingerprint …`; raises click.UsageError."""
    python, flag, module, name, *arguments = shlex.split(command)
    assert (python, flag, module, name) == ("python", "-m", "lumina_ray", "fingerprint")
    lumina = typer.main.get_command(app)
    return lumina.commands[name].make_context(name, arguments).params  # type: ignore[attr-defined]


def _assert_on_shared_storage(name: str, *paths: str) -> None:
    claim = read_manifest("storage.yaml")
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]
    for group in _groups(name):
        spec = group["template"]["spec"]
        (volume,), (mount,) = spec["volumes"], spec["containers"][0]["volumeMounts"]
        assert volume["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]
        assert mount["name"] == volume["name"]
        assert all(Path(path).is_relative_to(mount["mountPath"]) for path in paths)


def _assert_gpus_are_fed(node: dict[str, float], nodes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A job takes every GPU, with as many decoders as it would like, and leaves each node a CPU."""
    present = {kind: nodes * amount for kind, amount in node.items()}
    monkeypatch.setattr(ray, "cluster_resources", lambda: present)
    workers = choose_workers("auto", None)
    assert (workers.device, workers.count * workers.gpus) == ("cuda", present["GPU"])
    assert workers.decoders == 4 * workers.count
    # Decoding and writing, in the worst case on one node's share.
    assert node["CPU"] >= 2 * TASK_CPUS * workers.decoders / nodes + 1
