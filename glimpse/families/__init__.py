"""Adapters over diffusers, one file a model family."""
