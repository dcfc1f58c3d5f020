"""The embedders, one row each. This module imports neither torch nor NumPy."""

from dataclasses import dataclass


@dataclass(frozen=True)
class EmbedderRow:
    """One embedder.

    Attributes:
        name: it, and the folder of its weights.
        rate_hz: sample rate of its audio.
        window_samples: samples that it looks at, at that rate; always as many.
        dims: numbers of its published weights' vectors; other weights may have others.
        loader: where it is loaded, as `module:name`; called with a folder and a device.
        files: what the folder must hold, for errors.
        licence: of the published weights, and what it forbids.
        bundled: whether weights come with this software.
    """

    name: str
    rate_hz: int
    window_samples: int
    dims: int
    loader: str
    files: str
    licence: str
    bundled: bool = False

    @property
    def reading(self) -> str:
        """Say in words how a chunk becomes a vector; specifications carry it."""
        return (
            f"no loss: mean over windows of {self.window_samples} samples at {self.rate_hz} Hz of the decoded codes, "
            "by frames with sound"
        )


_MODULES = "lumina_ray.embedding"
EMBEDDERS: dict[str, EmbedderRow] = {
    row.name: row
    for row in (
        EmbedderRow(
            "clap",
            rate_hz=48_000,
            window_samples=480_000,
            dims=512,
            loader=f"{_MODULES}.clap:load",
            files="config.json, preprocessor_config.json and model.safetensors of a ClapModel without fusion, such as "
            "laion/larger_clap_music",
            licence="Apache-2.0",
        ),
        EmbedderRow(
            "clews",
            rate_hz=16_000,
            window_samples=320_000,
            dims=2048,
            loader=f"{_MODULES}.clews:load",
            files="checkpoint_best.ckpt and the configuration.yaml beside it, from zenodo.org/records/15045900",
            licence="see the record at zenodo.org/records/15045900; its code is MIT",
        ),
        EmbedderRow(
            "mert",
            rate_hz=24_000,
            window_samples=120_000,
            dims=768,
            loader=f"{_MODULES}.mert:load",
            files="config.json and pytorch_model.bin (or model.safetensors) of m-a-p/MERT-v1-95M",
            licence="CC-BY-NC 4.0: not for commercial use",
        ),
        EmbedderRow(
            "musicnn",
            rate_hz=16_000,
            # 187 frames of 256 samples, as the network was trained.
            window_samples=186 * 256,
            dims=200,
            loader=f"{_MODULES}.musicnn:load",
            files="musicnn.npz, or .index and .data-00000-of-00001 of a TensorFlow checkpoint",
            licence="ISC",
            bundled=True,
        ),
    )
}
"""Every embedder by its name."""
