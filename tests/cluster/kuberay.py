"""Kubernetes manifests against KubeRay's CRD schemas. The CRDs (3 MB of another project's) are not kept here:

python -m tests.cluster.kuberay ray-operator/config/crd/bases 1.7.0    # of a KubeRay checkout at that release

checks the manifests and records in kuberay_checked.json which content was found good against which CRDs. The tests see
to it that nobody changes a manifest without that; with the folder in KUBERAY_CRDS they check against the CRDs again.
"""

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import jsonschema
import yaml  # type: ignore[import-untyped]

import cluster

MANIFESTS = Path(cluster.__file__).parent / "kuberay"
RECORD = Path(__file__).with_name("kuberay_checked.json")
CHECKED = ("rayjob.yaml", "rayservice.yaml")


def read_manifest(name: str) -> dict[str, Any]:
    return yaml.safe_load((MANIFESTS / name).read_text("utf-8"))


def content_sha256(manifest: dict[str, Any]) -> str:
    """Of what a manifest says, whatever its comments and layout."""
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()


def crd_path(crds: Path, manifest: dict[str, Any]) -> Path:
    return crds / f"ray.io_{manifest['kind'].lower()}s.yaml"


def check_against_crd(manifest: dict[str, Any], crds: Path) -> None:
    """Raises jsonschema.ValidationError. Rules written in CEL are not evaluated: only an API server does that."""
    crd = yaml.load(crd_path(crds, manifest).read_text("utf-8"), yaml.CSafeLoader)
    group, _, version = manifest["apiVersion"].partition("/")
    assert (crd["spec"]["group"], crd["spec"]["names"]["kind"]) == (group, manifest["kind"])
    (schema,) = (v["schema"]["openAPIV3Schema"] for v in crd["spec"]["versions"] if v["name"] == version)
    jsonschema.Draft202012Validator(as_json_schema(schema)).validate(manifest)


def as_json_schema(schema: Any) -> Any:
    """A structural OpenAPI schema of Kubernetes as JSON Schema.

    Closed where an API server would drop unknown fields, because a misspelt one is a mistake.
    """
    if isinstance(schema, list):
        return [as_json_schema(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    converted = {
        key: as_json_schema(value)
        for key, value in schema.items()
        # `properties` holds names of fields, of which any may look like a word of the schema.
        if key != "properties" and not key.startswith("x-kubernetes-")
    }
    if "properties" in schema:
        converted["properties"] = {name: as_json_schema(field) for name, field in schema["properties"].items()}
        if not schema.get("x-kubernetes-preserve-unknown-fields"):
            converted.setdefault("additionalProperties", False)
    if schema.get("x-kubernetes-int-or-string"):
        converted["type"] = ["integer", "string"]
    if converted.pop("nullable", False) is True:
        converted["type"] = [converted["type"], "null"]
    return converted


def main(crds: Path, version: str) -> None:
    record: dict[str, Any] = {"kuberay": version, "crds_sha256": {}, "manifests_sha256": {}}
    for name in CHECKED:
        manifest = read_manifest(name)
        check_against_crd(manifest, crds)
        crd = crd_path(crds, manifest)
        record["crds_sha256"][crd.name] = hashlib.sha256(crd.read_bytes()).hexdigest()
        record["manifests_sha256"][name] = content_sha256(manifest)
    RECORD.write_text(json.dumps(record, indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
