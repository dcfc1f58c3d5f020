"""Gradients of what a diffusion transformer predicts, and not of how far that is from the truth.

Of diffusion models of images, gradients of the squared prediction agreed with retraining better than those of the
training loss (Zheng et al. 2024, "Intriguing Properties of Data Attribution on Diffusion Models", arXiv:2311.00500).
"""

from lumina_ray.fingerprint.channels import ProjectedGradients, band_weights
from lumina_ray.fingerprint.specification import Specification
from lumina_ray.model.diffusion.adapter import DiffusionTransformer


class PredictionGradients(ProjectedGradients):
    """Open "d-trak": gradients of the predicted velocity's square, of all tensors in each layer of a channel's band."""

    def __init__(self, model: DiffusionTransformer, specification: Specification) -> None:
        super().__init__(model, specification, band_weights(model, specification))
        self.measure = model.prediction_squares
