"""Workers that some songs, by their names, kill or take the disk from. They travel by name, as the one they replace."""

import os
import signal
import subprocess
from pathlib import Path

import pyarrow as pa

from lumina_ray.store import FingerprintWorker


class Killable(FingerprintWorker):
    """Is killed, as the system does it, whenever it gets the song `killer`."""

    def __call__(self, rows: pa.Table) -> pa.Table:
        if "killer" in rows["song_id"].to_pylist():
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__call__(rows)


class KilledOnce(FingerprintWorker):
    """Is killed in the middle of its batch when it first gets the song `victim`; a file beside the audio recalls it."""

    def __call__(self, rows: pa.Table) -> pa.Table:
        for row in rows.to_pylist():
            killed = Path(row["path"]).with_name("killed once")
            if row["song_id"] == "victim" and not killed.exists():
                honest = self.fingerprinter.many

                def interrupted(songs, killed=killed, honest=honest):
                    yield next(honest(songs))
                    killed.touch()
                    os.kill(os.getpid(), signal.SIGKILL)

                self.fingerprinter.many = interrupted  # type: ignore[method-assign]
        return super().__call__(rows)


class WritesNoMore(FingerprintWorker):
    """Mounts a folder read-only, as the system does with a disk that fails, when it gets the song `victim`."""

    def __init__(self, *arguments, folder: Path) -> None:
        super().__init__(*arguments)
        self._folder = folder

    def __call__(self, rows: pa.Table) -> pa.Table:
        if "victim" in rows["song_id"].to_pylist():
            subprocess.run(["mount", "-o", "bind,ro", self._folder, self._folder], check=True)
        return super().__call__(rows)
