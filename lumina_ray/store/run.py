"""`run.json`: the identity of the run that fills a store, and the guard against filling it from two runs.

Layout of a store:

    run.json            manifest, model, specification and software of the run
    manifest.parquet    the songs of the run, as they were read
    checkpoint/         Ray Data's records of the songs that are committed
    data/*.parquet      one row a song
    calibration.json    written by `lumina calibrate`, with song_noise.parquet and shared.parquet
    membership.parquet  written by `lumina use`
    _SUCCESS            empty; present once every song of the manifest has exactly one row
    _LOCK               held by the job that fills the store; left behind, and then without meaning
    _FAULT              why the store cannot be trusted; present once a worker's numbers were found to be wrong
"""

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Self

import pyarrow as pa

import lumina_ray
from lumina_ray.errors import NumericsError, SpecificationMismatch, StoreError
from lumina_ray.files import TEMPORARY_SUFFIX, atomic_path
from lumina_ray.fingerprint import Specification
from lumina_ray.storage import AnyPath, Location, locate
from lumina_ray.vocabulary import STORED_AS

RUN_FILE = "run.json"
MANIFEST_FILE = "manifest.parquet"
DATA_FOLDER = "data"
CHECKPOINT_FOLDER = "checkpoint"
SUCCESS_FILE = "_SUCCESS"
FAULT_FILE = "_FAULT"
LOCK_FILE = "_LOCK"


@dataclass(frozen=True)
class Run:
    """Identity of a fingerprinting run.

    Attributes:
        manifest_sha256: hash of the songs' ids and paths (or codes), not of the file that lists them.
        model: the name as given; `specification.weights_sha256` identifies the model.
        environment: adapter, device and library versions that the vectors' last bits depend on.
    """

    manifest_sha256: str
    n_songs: int
    model: str
    specification: Specification
    environment: dict[str, str]
    software_version: str = lumina_ray.__version__

    def to_dict(self) -> dict:
        return asdict(self) | {
            "specification": self.specification.to_dict(),
            "specification_sha256": self.specification.sha256,
        }

    @classmethod
    def from_dict(cls, values: dict) -> Self:
        fields = {name: value for name, value in values.items() if name != "specification_sha256"}
        return cls(**fields | {"specification": Specification.from_dict(values["specification"])})


def manifest_sha256(manifest: pa.Table) -> str:
    """Hash of a job's songs, in hexadecimal: ids and paths, and codes or latents where rows have them, in order."""
    columns = [column for column in ("song_id", "path", *STORED_AS) if column in manifest.column_names]
    digest = hashlib.sha256()
    for batch in manifest.select(columns).to_batches(max_chunksize=1024):
        for row in batch.to_pylist():
            digest.update(repr(list(row.values())).encode())
    return digest.hexdigest()


def write_json(path: Location, values: dict) -> None:
    """Write a JSON file whole or not at all."""
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(values, indent=2, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")


def begin_run(store: Location, run: Run) -> bool:
    """Begin a store for a run, or check that an existing store was begun for the same run.

    Returns:
        True where the run was begun earlier, and is to be resumed.

    Raises:
        StoreError: the folder is not empty and holds no store.
        SpecificationMismatch: the store belongs to other songs, another model, specification or software; the message
            shows both values of the first difference.
    """
    if (store / RUN_FILE).exists():
        existing, wanted = read_run(store).to_dict(), run.to_dict()
        for name, value in wanted.items():
            if existing.get(name) != value and name != "model":
                raise SpecificationMismatch(
                    f"{store} was made with {name} = {_brief(existing.get(name))}, this run has {_brief(value)}; "
                    "choose another --out, or delete the store to begin again"
                )
        return True
    names = (path.name for path in store.iterdir()) if store.exists() else ()
    if any(name != LOCK_FILE and not name.endswith(TEMPORARY_SUFFIX) for name in names):
        raise StoreError(f"{store} is not empty and is no fingerprint store; choose another --out")
    store.mkdir(parents=True, exist_ok=True)
    write_json(store / RUN_FILE, run.to_dict())
    return False


def condemn(store: Location, reason: str) -> None:
    """Mark a store as unusable: a worker that cannot be trusted made some of its rows. No job goes on with it."""
    write_json(store / FAULT_FILE, {"code": NumericsError.code, "error": reason})


def check_not_condemned(store: Location) -> None:
    """Check that a store was not marked as unusable by `condemn`.

    Raises:
        NumericsError: it was; says why.
    """
    path = store / FAULT_FILE
    if path.exists():
        reason = json.loads(path.read_text(encoding="utf-8"))["error"]
        raise NumericsError(
            f"{reason}. {store} cannot be used, as that worker's other songs may be wrong too: delete it"
        )


def read_run(store: AnyPath) -> Run:
    """Read a store's `run.json`.

    Raises:
        StoreError: no store, or a damaged one.
    """
    store = locate(store)
    path = store / RUN_FILE
    if not path.is_file():
        raise StoreError(f"{store} is no fingerprint store: it has no {RUN_FILE}; make one with `lumina fingerprint`")
    try:
        return Run.from_dict(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError, KeyError) as error:
        raise StoreError(f"{path} is damaged or of another software version: {error}") from error


def _brief(value: object) -> str:
    text = json.dumps(value, sort_keys=True)
    return text if len(text) <= 200 else f"{text[:200]}… (sha256 {hashlib.sha256(text.encode()).hexdigest()[:12]})"
