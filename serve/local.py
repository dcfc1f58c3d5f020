"""Ray Serve on this machine, for as long as this process wants it."""

import ipaddress
import logging
import signal
import socket
import sys
import threading
import time
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Self

import httpx
import ray
from ray import serve
from ray.exceptions import RayError
from ray.serve import Application
from ray.serve.exceptions import RayServeException

from cluster.session import ray_session
from lumina_ray.errors import ClusterError, UsageError
from serve.proxy import ENVIRONMENT

APPLICATION = "lumina"
# The gateway writes a line of its own for each request.
APPLICATION_LOGS = {"encoding": "JSON", "enable_access_log": False}

_READY_WITHIN_S = 60.0
# Ray's own timeout answers with plain text: the gateway's comes first.
_PROXY_GRACE_S = 15.0
_FLUSH_S = 0.5


@dataclass(frozen=True)
class Server:
    """A running endpoint; also a context manager that stops it.

    Attributes:
        address: such as "http://127.0.0.1:8000".
        running: what `stop` ends: Serve, and Ray if it was started for this.
    """

    address: str
    running: ExitStack

    @classmethod
    def start(
        cls, application: Application, host: str, port: int, cpus: float, gpus: int, request_timeout_s: float
    ) -> Self:
        """Start Ray where it is not running, Serve on it, and the application on that; wait until it is ready.

        Raises:
            UsageError: the address cannot be listened on.
            ClusterError: too few CPUs or GPUs, Serve already runs there, or the replicas cannot be constructed.
        """
        _check_address(host, port)
        server = cls(f"http://{_url_host(host)}:{port}", ExitStack())
        with ExitStack() as running:
            running.enter_context(ray_session())
            if serve.status().proxies:
                raise ClusterError(
                    "Ray Serve already runs on this cluster; add the application to its config and use `serve deploy`"
                )
            _check_resources(cpus, gpus)
            running.callback(serve.shutdown)
            logging.getLogger("ray.serve").setLevel(logging.WARNING)
            serve.start(
                proxy_location="HeadOnly",
                http_options={
                    "host": host,
                    "port": port,
                    "request_timeout_s": request_timeout_s + _PROXY_GRACE_S,
                },
                logging_config={"encoding": "JSON"},
                controller_options={"runtime_env": {"env_vars": ENVIRONMENT}},
            )
            try:
                serve.run(application, name=APPLICATION, route_prefix="/", logging_config=APPLICATION_LOGS)
            except RuntimeError as error:
                raise ClusterError(f"the endpoint did not start: {_cause(error)}") from error
            running.callback(drain, APPLICATION, request_timeout_s)
            server._wait_until_ready()
            # Nothing failed: what was started is now the server's to stop.
            server.running.push(running.pop_all())
        print(f"Serving at {server.address} (reference: {server.address}/docs). Stop with Ctrl-C.", flush=True)
        return server

    def wait(self) -> None:
        """Block until SIGINT or SIGTERM, then stop; at once where another one comes."""
        stopped = threading.Event()
        previous = {s: signal.signal(s, lambda *_: stopped.set()) for s in (signal.SIGINT, signal.SIGTERM)}
        try:
            stopped.wait()
            print("Stopping: requests under way are finished first.", file=sys.stderr, flush=True)
        finally:
            for s, handler in previous.items():
                signal.signal(s, handler)
            self.stop()

    def stop(self) -> None:
        """Finish the requests under way, and stop serving; Ray as well if it was started for this."""
        self.running.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _wait_until_ready(self) -> None:
        deadline_s = time.monotonic() + _READY_WITHIN_S
        answer = "no answer"
        while time.monotonic() < deadline_s:
            try:
                response = httpx.get(f"{self.address}/readyz", timeout=10, trust_env=False)
                if response.is_success:
                    return
                answer = response.text
            except httpx.TransportError as error:
                answer = str(error)
            time.sleep(0.1)
        raise ClusterError(f"the endpoint was not ready within {_READY_WITHIN_S:.0f} s: {answer}")


def drain(application: str, limit_s: float) -> None:
    """Have the gateways of an application refuse requests, and wait until they have answered those under way.

    Serve's own shutdown would cut them off: it kills its proxy first.
    """
    try:
        serve.get_deployment_handle("Gateway", application).broadcast("drain").results(timeout_s=limit_s)
    except (TimeoutError, RayError, RayServeException) as error:
        print(f"Requests under way are cut off: {error}", file=sys.stderr, flush=True)
    # Answers of a gateway may still be on their way through the proxy.
    time.sleep(_FLUSH_S)


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address.

    Raises:
        UsageError: nobody knows the host.
    """
    return ipaddress.ip_address(_resolve(host, 0)[-1][0]).is_loopback


def _resolve(host: str, port: int) -> tuple:
    try:
        return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except OSError as error:
        raise UsageError(f"cannot listen on {host}, port {port} ({error.strerror}); choose another host") from error


def _check_address(host: str, port: int) -> None:
    family, kind, protocol, _, address = _resolve(host, port)
    try:
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        raise UsageError(
            f"cannot listen on {host}, port {port} ({error.strerror}); choose another port or host"
        ) from error
    if not is_loopback(host):
        print(
            f"WARNING: listening on {host}: keys and audio travel without encryption. Put a proxy that terminates TLS "
            "in front, or use 127.0.0.1.",
            file=sys.stderr,
            flush=True,
        )


def _check_resources(cpus: float, gpus: int) -> None:
    present = ray.cluster_resources()
    for name, wanted in (("CPU", cpus), ("GPU", gpus)):
        if present.get(name, 0) < wanted:
            raise ClusterError(
                f"the deployments need {wanted:g} {name}, this Ray has {present.get(name, 0):g}; ask for fewer "
                "replicas" + (" or device cpu" if name == "GPU" else "")
            )


def _url_host(host: str) -> str:
    # An unspecified address is listened on, but cannot be called.
    reachable = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"[{reachable}]" if ":" in reachable else reachable


def _cause(error: RuntimeError) -> str:
    """Why a deployment failed: the last line of a replica's traceback, which Serve keeps in the status."""
    status = serve.status().applications.get(APPLICATION)
    messages = [deployment.message for deployment in status.deployments.values()] if status else []
    lines = [line.strip() for message in (*messages, str(error)) for line in message.splitlines() if line.strip()]
    return next((line for line in reversed(lines) if "Error" in line), lines[-1])
