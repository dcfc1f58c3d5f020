"""Whether the Ray cluster in RAY_ADDRESS answers, asked before Ray is imported, which takes seconds.

Ray itself waits for two minutes for a cluster that is gone, and ends the process then.
"""

import os
import socket

from lumina_ray.errors import ClusterError

_PATIENCE_S = 3.0
# What a client of HTTP/2 begins with, and the frame of settings that a server begins with: Ray speaks gRPC.
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
_SETTINGS, _SETTINGS_AT = 4, 3
_ELSEWHERE = ("", "auto", "local")


def check_ray_address() -> None:
    """Check that the cluster in RAY_ADDRESS answers, if one is named there.

    Raises:
        ClusterError: it does not, or the address is none.
    """
    address = os.environ.get("RAY_ADDRESS", "").strip()
    if address in _ELSEWHERE:
        return
    scheme, _, bare = address.rpartition("://")
    host, _, port = bare.rpartition(":")
    if scheme not in ("", "ray") or not host or not port.isdecimal() or not 0 < int(port) < 65_536:
        raise ClusterError(
            f"RAY_ADDRESS={address} is no address of a Ray cluster: it must be HOST:PORT, such as 10.0.0.1:6379 (the "
            "dashboard's, http://HOST:8265, is for `ray job submit --address`); correct it, or unset it to start Ray "
            "on this machine"
        )
    try:
        _greet(host.strip("[]"), int(port))
    except (OSError, UnicodeError) as error:
        slow = isinstance(error, TimeoutError)
        cause = f"no answer within {_PATIENCE_S:.0f} s" if slow else getattr(error, "strerror", None) or str(error)
        raise ClusterError(
            f"the Ray cluster at RAY_ADDRESS={address} does not answer ({cause}): start it, correct the address, or "
            "unset RAY_ADDRESS to start Ray on this machine"
        ) from error


def _greet(host: str, port: int) -> None:
    with socket.create_connection((host, port), timeout=_PATIENCE_S) as connection:
        if os.environ.get("RAY_USE_TLS", "0") not in ("", "0"):
            return
        connection.sendall(_PREFACE)
        answer = connection.recv(9)
    if len(answer) <= _SETTINGS_AT or answer[_SETTINGS_AT] != _SETTINGS:
        raise ConnectionError("what listens there is not Ray")
