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


def vae_source(settings: ModelSettings) -> ModelSource:
    """The full VAE: the model's own, or another one that the settings name."""
    own = settings.vae is None
    return ModelSource.of(
        settings.resolve(settings.vae or settings.path),
        variant=settings.variant if own else None,
        revision=settings.vae_revision or (settings.revision if own else None),
        dtype=settings.dtype,
        device=settings.device,
        vae_folder="vae" if own else None,
    )


def tiny_vae_source(settings: ModelSettings) -> ModelSource:
    return ModelSource.of(
        settings.resolve(settings.tiny_vae),
        variant=None,
        revision=settings.tiny_vae_revision,
        dtype=settings.dtype,
        device=settings.device,
    )
