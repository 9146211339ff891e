"""The model's settings, as the families take them. Loads torch: for the stages alone."""

from config.settings import ModelSettings
from glimpse.families.source import ModelSource


def model_source(settings: ModelSettings) -> ModelSource:
    return _source(settings, *settings.of_model, variant=settings.variant)


def vae_source(settings: ModelSettings) -> ModelSource:
    """The full VAE: the model's own, or another one that the settings name."""
    if settings.vae is None:
        return _source(settings, *settings.of_vae, variant=settings.variant)
    return _source(settings, *settings.of_vae, vae_folder=None)


def tiny_vae_source(settings: ModelSettings) -> ModelSource:
    return _source(settings, *settings.of_tiny_vae)


def _source(
    settings: ModelSettings,
    path: str,
    revision: str | None,
    *,
    variant: str | None = None,
    vae_folder: str | None = "vae",
) -> ModelSource:
    # The settings were read on another node, perhaps, which lacks the folder.
    return ModelSource.of(
        settings.resolve(path, revision),
        variant=variant,
        revision=revision,
        dtype=settings.dtype,
        device=settings.device,
        vae_folder=vae_folder,
    )
