"""Models that are not at hand: where they were looked for, and how to get them."""

from pathlib import Path

import pytest

from lumina_ray.errors import ModelError
from lumina_ray.model import open_model


@pytest.mark.parametrize("name", ["facebook/musicgen-large", "audiocraft:facebook/musicgen-large"])
def test_hub_model_that_is_not_cached_names_the_command_and_the_licence(name: str) -> None:
    with pytest.raises(ModelError, match="hf download facebook/musicgen-large") as caught:
        open_model(name)
    assert "CC-BY-NC" in str(caught.value)


def test_unknown_name_lists_what_there_is() -> None:
    with pytest.raises(ModelError, match="nano, nano-early"):
        open_model("micro")


def test_folder_that_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ModelError, match=r"model\.safetensors"):
        open_model(str(tmp_path))
