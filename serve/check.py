"""Check a Serve config before it is deployed: `python -m serve.check serve/config.yaml`.

Ray's own schema accepts misspelt keys without a word (`max_ongoing_request: 3` does nothing); here they are errors.
"""

import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, get_args

import yaml  # type: ignore[import-untyped]
from pydantic import BaseModel, ValidationError
from ray.serve.schema import DeploymentSchema, ServeDeploySchema

from lumina_ray.errors import LuminaError, UsageError
from lumina_ray.files import read_file
from serve.origin import is_loopback_name
from serve.proxy import ENVIRONMENT
from serve.schemas import IndexChoice, ServeArgs, describe_errors, shard_name

APPLICATION = "serve.app:build"


def check_config(path: Path) -> ServeDeploySchema:
    """Read and check a Serve config file.

    Raises:
        UsageError: not YAML, not a Serve config, unknown keys, an `import_path` that cannot be imported, deployments
            that the application does not have, arguments or a user_config that it does not take, open access for
            other machines, or a proxy that believes the headers of clients.
    """
    try:
        values = yaml.safe_load(read_file(path))
        config = ServeDeploySchema.model_validate(values)
    except (OSError, yaml.YAMLError) as error:
        raise UsageError(f"{path}: cannot be read as YAML: {error}") from error
    except ValidationError as error:
        raise UsageError(f"{path}: {describe_errors(list(error.errors()))}") from error
    unknown = sorted(_unknown_keys(values, ServeDeploySchema, ""))
    if unknown:
        raise UsageError(f"{path}: Ray Serve knows no {', '.join(unknown)} and would ignore it")
    for application in config.applications:
        module, _, attribute = application.import_path.partition(":")
        try:
            getattr(import_module(module), attribute)
        except (ImportError, AttributeError, ValueError) as error:
            raise UsageError(f"{path}: import_path {application.import_path!r} leads nowhere: {error}") from error
        if application.import_path == APPLICATION:
            args = ServeArgs.model_validate(application.args)
            if args.open_access and not is_loopback_name(config.http_options.host):
                raise UsageError(
                    f"{path}: open_access, and http_options.host {config.http_options.host} may let other machines "
                    "in: name a file of keys, or listen on 127.0.0.1"
                )
            _check_deployments(path, application.deployments, args.shards)
            _check_proxy(path, config)
    return config


def _check_deployments(path: Path, deployments: list[DeploymentSchema], shards: int) -> None:
    searching = {"Searcher"} | ({shard_name(i) for i in range(shards)} if shards > 1 else set())
    known = {"Gateway", "Fingerprinter", "Jobs", "Confirmer"} | searching
    if strangers := sorted({deployment.name for deployment in deployments} - known):
        raise UsageError(f"{path}: the application has no deployment {', '.join(strangers)}, only {sorted(known)}")
    wanted = {}
    for deployment in deployments:
        if "user_config" not in deployment.model_fields_set:
            continue
        if deployment.name not in searching:
            raise UsageError(f"{path}: {deployment.name} takes no user_config, only {', '.join(sorted(searching))} do")
        try:
            wanted[deployment.name] = IndexChoice.model_validate(deployment.user_config).index_version
        except ValidationError as error:
            raise UsageError(
                f"{path}: user_config of {deployment.name}: {describe_errors(list(error.errors()))}"
            ) from error
    if wanted and (wanted.keys() != searching or len(set(wanted.values())) > 1):
        raise UsageError(f"{path}: {', '.join(sorted(searching))} need the same index_version in their user_config")


def _check_proxy(path: Path, config: ServeDeploySchema) -> None:
    options = config.controller_options
    given = ((options.runtime_env if options else None) or {}).get("env_vars", {})
    if missing := ENVIRONMENT.items() - given.items():
        ((name, value),) = missing
        raise UsageError(
            f"{path}: clients' request ids would be logged however long they are: set controller_options.runtime_env."
            f"env_vars.{name} to {value}"
        )


def _unknown_keys(values: Any, schema: Any, place: str) -> Iterator[str]:
    """Keys of nested dictionaries and lists that a pydantic model has no field for."""
    if isinstance(values, list):
        (item_schema, *_) = get_args(schema) or (None,)
        for i, value in enumerate(values):
            yield from _unknown_keys(value, item_schema, f"{place}[{i}]")
    elif isinstance(values, dict):
        model = _model_of(schema)
        if model is None:
            return
        for key, value in values.items():
            field = model.model_fields.get(key)
            here = f"{place}.{key}" if place else str(key)
            if field is None:
                yield here
            else:
                yield from _unknown_keys(value, field.annotation, here)


def _model_of(annotation: Any) -> type[BaseModel] | None:
    """The pydantic model in an annotation such as `Model`, `Optional[Model]` or `Union[Dict, Model]`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((model for part in get_args(annotation) if (model := _model_of(part))), None)


if __name__ == "__main__":
    try:
        for argument in sys.argv[1:]:
            check_config(Path(argument))
            print(f"{argument}: good")
    except LuminaError as error:
        sys.exit(f"serve.check: {error}")
