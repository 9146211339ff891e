"""Glimpse: serving diffusion models that show the picture while it is being made."""
