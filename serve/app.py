"""The endpoint as a Ray Serve application. To start it:

lumina serve --index INDEX --open                # on this machine, with a Ray of its own
serve run serve.app:build index=/path/to/INDEX open_access=true   # on a Ray cluster, for development
serve deploy serve/config.yaml                   # on a Ray cluster; check it with `python -m serve.check` before
"""

from pathlib import Path
from typing import Any

from ray.serve import Application

from lumina_ray.attribution.confirmer import check_store
from lumina_ray.attribution.fingerprinter import matching_model
from lumina_ray.errors import SpecificationMismatch, UsageError
from lumina_ray.fingerprint import Specification
from lumina_ray.index import Shard, Snapshot, load_snapshot, newest_snapshot
from lumina_ray.model import find_model
from lumina_ray.model.files import AUDIOCRAFT_PREFIX
from lumina_ray.model.fisher import FISHER_FILE, load_fisher
from lumina_ray.storage import locate
from lumina_ray.store import stream_store
from serve.deployments import CONFIRMER, FINGERPRINTER, GATEWAY, JOBS, MERGER, SEARCHER, SHARD
from serve.keys import read_keys
from serve.local import Server
from serve.origin import is_loopback_name
from serve.schemas import ServeArgs, shard_name

__all__ = ["ServeArgs", "Server", "build", "start"]


def build(args: ServeArgs) -> Application:
    """Wire up the deployments, after checking here what would otherwise leave replicas restarting for ever.

    The newest snapshot is chosen once, now: every replica serves the same version, however late it starts, until a
    config asks for another one.

    Raises:
        StoreError: no index or store there, or a damaged one.
        ModelError: the model or its Fisher information is not at hand.
        SpecificationMismatch: the index, the store or the Fisher information was made with another model.
        UsageError: the file of keys cannot be read, or the index cannot be spread over so many shards; confirmations by
            a model in half precision.
    """
    if args.keys:
        read_keys(args.keys)
    # Replicas have another working directory.
    args = args.model_copy(
        update={
            name: path.resolve() for name in ("keys", "jobs", "fisher") if (path := getattr(args, name)) is not None
        }
    )
    folder = newest_snapshot(args.index).resolve()
    # An index is spread because it is large: nothing large of it is read here.
    snapshot = load_snapshot(folder, Shard(0, 0, args.shards) if args.shards > 1 else None)
    model = matching_model(snapshot, args.model)
    gpus = 1 if args.device == "cuda" else 0
    fingerprinter = FINGERPRINTER.options(
        num_replicas=args.fingerprinters, ray_actor_options={"num_cpus": 1, "num_gpus": gpus}
    ).bind(model, snapshot.record.specification, args.device, args.request_timeout_s)
    searching: dict[str, Any] = {"num_replicas": args.searchers, "user_config": {"index_version": folder.name}}
    index = (str(folder), snapshot.specification_sha256)
    if args.shards == 1:
        searcher = SEARCHER.options(**searching).bind(*index)
    else:
        shards = [
            SHARD.options(name=shard_name(i), **searching).bind(*index, Shard(i, i + 1, args.shards))
            for i in range(args.shards)
        ]
        searcher = MERGER.options(**searching).bind(*index, shards)
    jobs = JOBS.bind(args, fingerprinter, searcher) if args.jobs else None
    confirmer = None
    if args.store is not None:
        where = _check_confirmation(args.store, args.fisher, snapshot, model)
        confirmer = CONFIRMER.options(ray_actor_options={"num_cpus": 1, "num_gpus": gpus}).bind(
            model, snapshot.record.specification, args.device, where, args.fisher, args.request_timeout_s
        )
    return GATEWAY.options(num_replicas=args.gateways).bind(args, fingerprinter, searcher, jobs, confirmer)


def _check_confirmation(store: str, fisher: Path | None, snapshot: Snapshot, model: str) -> str:
    """Check what confirmations take, and give the store's place: replicas have another working directory."""
    specification = Specification.from_dict(snapshot.record.specification)
    if specification.dtype != "float32":
        raise UsageError(
            f"the index was made in {specification.dtype}: forgetting needs weights in float32; leave `store` out"
        )
    wanted, opened = specification.weights_sha256, stream_store(locate(store))
    check_store(opened, wanted, store)
    place = fisher or find_model(model.removeprefix(AUDIOCRAFT_PREFIX)) / FISHER_FILE
    if (found := load_fisher(place).weights_sha256) != wanted:
        raise SpecificationMismatch(
            f"{place} was measured with weights {found[:12]}, the index's model has {wanted[:12]}; measure it again "
            "with `lumina fisher STORE MODEL`"
        )
    return str(opened.path.resolve())


def start(args: ServeArgs, *, host: str = "127.0.0.1", port: int = 8000, blocking: bool = True) -> Server:
    """Serve from this machine, starting Ray if it is not running, and print the address once requests can be answered.

    Args:
        host: any other than localhost or a loopback address wants `args.keys`.
        blocking: return only after SIGINT or SIGTERM, stopped; otherwise return the running server at once.

    Raises:
        LuminaError: what `build` raises; a port in use; open access for other machines; a Ray that is too small or
            already serves something else.
    """
    if args.open_access and not is_loopback_name(host):
        raise UsageError(
            f"{host} may let other machines in, who would need no key: give a file of keys, made with "
            "`lumina keys add NAME --file KEYS`, or stay on 127.0.0.1"
        )
    application = build(args)
    searchers = args.searchers * (args.shards + 1 if args.shards > 1 else 1)
    models = args.fingerprinters + (args.store is not None)
    cpus = models + 0.25 * (args.gateways + searchers + (args.jobs is not None))
    gpus = models if args.device == "cuda" else 0
    server = Server.start(application, host, port, cpus, gpus, args.request_timeout_s)
    if blocking:
        server.wait()
    return server
