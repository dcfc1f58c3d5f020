"""Latent diffusion transformers in the form of Stable Audio: loading, loss, sampling."""
