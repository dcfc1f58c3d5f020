"""Where a model's files are, and what identifies them."""

import hashlib
from pathlib import Path

from lumina_ray.errors import ModelError
from lumina_ray.files import open_file
from lumina_ray.vocabulary import RepresentationName

BUNDLED_FOLDER = Path(__file__).parent / "bundled"
REFERENCE = "nano-reference"
"""A smaller MusicGen with nano's codec that never heard the demo's music: `lumina use` compares nano with it."""
BUNDLED = ("nano", "nano-early", "nano-dit", REFERENCE)
# Before a name: load it through audiocraft.
AUDIOCRAFT_PREFIX = "audiocraft:"
# In a folder in the diffusers format, and in one of stable-audio-tools; their parts are in folders of their own.
DIFFUSERS_FILE = "model_index.json"
STABLE_AUDIO_FILE = "model_config.json"
_WEIGHT_SUFFIXES = {".safetensors", ".bin", ".th"}


def find_model(name: str) -> Path:
    """The folder of a bundled model, of a local folder, or of a hub model in the local cache.

    Nothing is downloaded: the published weights are up to 13 GB and not for commercial use, so fetching them is the
    user's own decision.

    Raises:
        ModelError: not at hand; the message says where it was looked for and how to fetch it.
    """
    if name in BUNDLED:
        return BUNDLED_FOLDER / name
    folder = expanded(name)
    if is_folder(folder):
        return folder.resolve()
    if name.count("/") == 1 and not name.startswith((".", "/")):
        # Most models are bundled or folders, and a client of the hub takes long to import.
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

        try:
            return Path(snapshot_download(name, local_files_only=True))
        except (LocalEntryNotFoundError, HFValidationError, OSError) as error:
            raise ModelError(
                f"model {name!r} is not at hand: it is neither a local folder nor in the Hugging Face cache. "
                f"Fetch it with `hf download {name}` on a machine with internet access, or pass a local folder. "
                "Mind the licence: the published facebook/musicgen weights are CC-BY-NC 4.0 (non-commercial), those of "
                "stabilityai/stable-audio-open under Stability AI's Community License, which limits commercial use."
            ) from error
    raise ModelError(
        f"model {name!r} not found: it is no bundled model ({', '.join(BUNDLED)}), no folder at "
        f"{folder.absolute()}, and no hub name such as facebook/musicgen-small"
    )


def representation_in(folder: Path) -> RepresentationName:
    """Tell whether a model writes music down in codes or in latents, by the files of its folder."""
    latents = any((folder / file).is_file() for file in (DIFFUSERS_FILE, STABLE_AUDIO_FILE))
    return "latents" if latents else "codes"


def is_folder(path: Path) -> bool:
    """Whether a path is a folder; one that no file system takes is none."""
    try:
        return path.is_dir()
    except OSError:
        return False


def expanded(name: str) -> Path:
    """The path of a name, with `~` as the home folder where there is one."""
    try:
        return Path(name).expanduser()
    except RuntimeError:  # "~nobody": there is no such user
        return Path(name)


def absolute_model(name: str) -> str:
    """The name of a model, with a relative folder made absolute: other processes have other current folders."""
    bare = name.removeprefix(AUDIOCRAFT_PREFIX)
    folder = expanded(bare)
    if bare in BUNDLED or not is_folder(folder):
        return name
    return name.removesuffix(bare) + str(folder.resolve())


def weights_sha256(folder: Path) -> str:
    """Hash of the folder's weight files by name and content; configuration and model cards do not count.

    Where a model has its parts in folders, their weight files count, too.

    Raises:
        ModelError: the folder holds no weights.
    """
    in_parts = folder.glob("*/*") if representation_in(folder) == "latents" else ()
    paths = [*folder.iterdir(), *in_parts]
    files = sorted(path for path in paths if path.suffix in _WEIGHT_SUFFIXES)
    if not files:
        raise ModelError(f"{folder}: holds no weights (*.safetensors, *.bin or *.th)")
    digest = hashlib.sha256()
    for path in files:
        with open_file(path) as file:
            name = path.relative_to(folder).as_posix()
            digest.update(f"{name}\0{hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
    return digest.hexdigest()
