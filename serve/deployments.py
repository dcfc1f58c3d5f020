"""The deployments: gateway (HTTP, decoding) → fingerprinter (model) → searcher (index, attribution); jobs; confirmer.

Nothing blocks an event loop: decoding, the model and the search run in threads. Each deployment's class is in a module
of its own, as a replica imports the module of its class: only the fingerprinter and the confirmer need torch.
"""

from typing import Any

from ray import serve
from ray.serve import Deployment

from serve.confirmer import Confirmer
from serve.fingerprinter import Fingerprinter
from serve.gateway import Gateway
from serve.jobs import Jobs
from serve.problems import RETRY_AFTER_S
from serve.searcher import Searcher
from serve.shards import Merger, ShardHolder

# Settings that Ray Serve leaves open. Queues are bounded: past them, a client is told to come back later.
_COMMON: dict[str, Any] = {
    "backpressure_config": {"status_code": 429, "retry_after_s": RETRY_AFTER_S},
    "max_constructor_retry_count": 3,
    "health_check_period_s": 15,
    "health_check_timeout_s": 60,
    "graceful_shutdown_wait_loop_s": 0.5,
    "graceful_shutdown_timeout_s": 30,
}

# It refuses by itself what is too much: see serve/places.py. Ray's own bound only keeps a flood from it.
GATEWAY: Deployment = serve.deployment(
    max_ongoing_requests=512, max_queued_requests=512, ray_actor_options={"num_cpus": 0.25}, **_COMMON
)(Gateway)

FINGERPRINTER: Deployment = serve.deployment(
    max_ongoing_requests=8, max_queued_requests=32, ray_actor_options={"num_cpus": 1}, **_COMMON
)(Fingerprinter)

# Deployments that hold no model.
_LIGHT: dict[str, Any] = _COMMON | {
    "max_ongoing_requests": 8,
    "max_queued_requests": 32,
    "ray_actor_options": {"num_cpus": 0.25},
}

SEARCHER: Deployment = serve.deployment(**_LIGHT)(Searcher)

# An index that is spread over shards has a searcher that asks them, and a deployment for each shard.
MERGER: Deployment = serve.deployment(name="Searcher", **_LIGHT)(Merger)

SHARD: Deployment = serve.deployment(**_LIGHT)(ShardHolder)

# One, as it owns the store of jobs.
JOBS: Deployment = serve.deployment(num_replicas=1, **_LIGHT)(Jobs)

# A confirmation takes minutes: one at a time, and few that wait for it.
CONFIRMER: Deployment = serve.deployment(
    max_ongoing_requests=1, max_queued_requests=4, ray_actor_options={"num_cpus": 1}, **_COMMON
)(Confirmer)
