"""Adapters over diffusers, one file a model family."""

LATENT_FACTOR = 8
"""Pixels to a latent, along each side."""
