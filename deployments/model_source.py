"""The model's settings, as the families take them. Loads torch: for the stages alone."""

from config.settings import ModelSettings
from glimpse.families.source import ModelSource


def model_source(settings: ModelSettings) -> ModelSource:
    return ModelSource.of(
        settings.resolve(settings.path),
        variant=settings.variant,
        revision=settings.revision,
        dtype=settings.dtype,
        device=settings.device,
    )


def tiny_vae_source(settings: ModelSettings) -> ModelSource:
    return ModelSource.of(
        settings.resolve(settings.tiny_vae),
        variant=None,
        revision=settings.tiny_vae_revision,
        dtype=settings.dtype,
        device=settings.device,
    )
