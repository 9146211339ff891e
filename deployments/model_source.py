"""The model's settings, as the families take them."""

import torch

from config.settings import ModelSettings
from glimpse.families.sdxl import ModelSource


def _device(settings: ModelSettings) -> torch.device:
    if settings.device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(settings.device)


def model_source(settings: ModelSettings) -> ModelSource:
    return ModelSource(
        path=settings.resolve(settings.path),
        variant=settings.variant,
        revision=settings.revision,
        dtype=getattr(torch, settings.dtype),
        device=_device(settings),
    )


def tiny_vae_source(settings: ModelSettings) -> ModelSource:
    return ModelSource(
        path=settings.resolve(settings.tiny_vae),
        variant=None,
        revision=settings.tiny_vae_revision,
        dtype=getattr(torch, settings.dtype),
        device=_device(settings),
    )
