"""One small interface over MusicGen, with an adapter for transformers and one for audiocraft."""

from lumina_ray.model.files import BUNDLED, find_model
from lumina_ray.model.interface import TRACKED_TENSORS, MusicModel, Prediction, TrackedTensor
from lumina_ray.model.open import open_model

__all__ = ["BUNDLED", "TRACKED_TENSORS", "MusicModel", "Prediction", "TrackedTensor", "find_model", "open_model"]
