"""Training workers' reports: metrics and checkpoints to Ray Train, histories and figures to files."""

import json
import tempfile
import time
from pathlib import Path
from typing import Any

import ray.train
import torch

_STATE_FILE = "state.pt"


class Progress:
    """Reports of a worker while it trains: metrics, and a checkpoint that the next attempt resumes from.

    Attributes:
        resume: the training state of the last checkpoint, or None at the beginning.
    """

    def __init__(self, history_file: Path) -> None:
        self.resume: dict[str, Any] | None = None
        self._file = history_file
        self._history: list[dict[str, float]] = []
        self._earlier_s = 0.0
        self._started_s = time.monotonic()
        checkpoint = ray.train.get_checkpoint()
        if checkpoint is not None:
            with checkpoint.as_directory() as folder:
                saved = torch.load(Path(folder) / _STATE_FILE, weights_only=True)
            self.resume, self._history = saved["training"], saved["history"]
            self._earlier_s = self._history[-1]["elapsed_s"]

    def report(self, metrics: dict[str, float], state: dict[str, Any]) -> None:
        metrics = metrics | {"elapsed_s": self._earlier_s + time.monotonic() - self._started_s}
        self._history.append(metrics)
        with tempfile.TemporaryDirectory() as folder:
            torch.save({"training": state, "history": self._history}, Path(folder) / _STATE_FILE)
            ray.train.report(metrics, checkpoint=ray.train.Checkpoint.from_directory(folder))
        write_json(self._file, self._history)


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file whole or not at all."""
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(content, indent=2) + "\n")
    partial.replace(path)


def add_to_json(path: Path, content: dict[str, Any]) -> None:
    """Add entries to the object in a JSON file, which need not be there yet."""
    before = json.loads(path.read_text()) if path.exists() else {}
    write_json(path, before | content)
