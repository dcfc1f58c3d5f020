"""A real S3-compatible server (moto's) in a process of its own, and faults that it can be told to have.

python -m tests.s3      # says its port, and serves until it is ended
"""

import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import parse_qs

from lumina_ray.storage import RemotePath, locate

BUCKET = "lumina"
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "somebody", "AWS_SECRET_ACCESS_KEY": "secret"}
_ANSWERS = {
    "503": (
        "503 Slow Down",
        b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>",
    ),
    "403": ("403 Forbidden", b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"),
}


class S3:
    """The server, as tests see it."""

    def __init__(self, port: int) -> None:
        self._url = f"http://127.0.0.1:{port}"
        self._options = f"endpoint_override=127.0.0.1:{port}&scheme=http&region=us-east-1"
        urllib.request.urlopen(urllib.request.Request(f"{self._url}/{BUCKET}", method="PUT")).close()

    def path(self, key: str) -> RemotePath:
        path = locate(f"s3://{BUCKET}/{key}?{self._options}")
        assert isinstance(path, RemotePath)
        return path

    def upload(self, folder: Path, key: str) -> RemotePath:
        """A copy of a folder in the bucket."""
        for file in folder.rglob("*"):
            if file.is_file():
                self.path(f"{key}/{file.relative_to(folder).as_posix()}").upload(file)
        return self.path(key)

    def fail(self, count: int, status: int = 503, method: str = "", key: str = "", done: bool = False) -> None:
        """Answer the next `count` requests of a method (any) to keys that contain `key` with an error; 0 heals.

        Args:
            done: do what was asked all the same, as where only the answer is lost.
        """
        asked = f"{count=}&{status=}&method={method}&key={key}&done={int(done)}"
        urllib.request.urlopen(f"{self._url}/faults?{asked}").close()

    def failed(self) -> int:
        """How many requests were answered so, ever."""
        with urllib.request.urlopen(f"{self._url}/faults") as answer:
            return int(answer.read())


@contextmanager
def s3_server() -> Iterator[S3]:
    """The server for the duration of a block."""
    process = subprocess.Popen([sys.executable, "-m", "tests.s3"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    try:
        assert process.stdout
        yield S3(int(process.stdout.readline()))
    finally:
        process.kill()
        process.wait()


def main() -> None:
    from moto.server import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import make_server

    moto = DomainDispatcherApplication(create_backend_app)
    faults: list[dict] = []
    n_failed = 0
    # moto looks whether a condition holds, and then writes: two threads of its server may do so at once, unlike S3.
    conditional = threading.Lock()

    def application(environ, start_response):
        nonlocal n_failed
        if environ["PATH_INFO"] == "/faults":
            asked = {name: value for name, (value,) in parse_qs(environ["QUERY_STRING"], True).items()}
            if asked.get("count") == "0":
                faults.clear()
            elif asked:
                faults.append(asked | {"left": int(asked["count"])})
            start_response("200 OK", [])
            return [str(n_failed).encode()]
        method, key = environ["REQUEST_METHOD"], environ["PATH_INFO"]
        for fault in faults:
            if fault["left"] and fault["method"] in ("", method) and fault["key"] in key:
                fault["left"] -= 1
                n_failed += 1
                if fault["done"] == "1":
                    moto(environ, lambda *_: None)
                status, body = _ANSWERS[fault["status"]]
                start_response(status, [("Content-Type", "application/xml"), ("Content-Length", str(len(body)))])
                return [body]
        if "HTTP_IF_MATCH" in environ or "HTTP_IF_NONE_MATCH" in environ:
            with conditional:
                return list(moto(environ, start_response))
        return moto(environ, start_response)

    server = make_server("127.0.0.1", 0, application, threaded=True)
    print(server.port, flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
