"""`config.settings`: paths, names, and defaults that fit one another."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from config.check import load_serve_config, serve_config_paths
from config.settings import ROOT, AppSettings, IngressSettings, ModelSettings


def test_a_folder_of_the_repository_is_absolute_and_a_hubs_name_stays() -> None:
    model = ModelSettings()
    assert model.resolve("models/miniature") == str(ROOT / "models" / "miniature")
    assert model.resolve("/tmp") == "/tmp"
    assert model.resolve("stabilityai/sdxl") == "stabilityai/sdxl"


@pytest.mark.parametrize("alias", ["sdxl", "a/b/c", "docs/static", "v1/images", "a b/c", ""])
def test_an_alias_that_no_route_could_answer_to_is_refused(alias: str) -> None:
    with pytest.raises(ValidationError):
        IngressSettings.model_validate({"aliases": [alias]})


def test_settings_are_frozen_and_know_every_key() -> None:
    with pytest.raises(ValidationError):
        AppSettings.model_validate({"denoiser": {"thread": 1}})
    with pytest.raises(ValidationError):
        AppSettings().model = ModelSettings()  # type: ignore[misc]


@pytest.mark.parametrize("path", serve_config_paths(), ids=lambda path: path.stem)
def test_no_replica_is_stopped_sooner_than_a_generation_may_take(path: Path) -> None:
    for application in load_serve_config(path).applications:
        settings = AppSettings.model_validate(application.args)
        for deployment in application.deployments:
            patience = deployment.graceful_shutdown_timeout_s or 0
            assert patience >= settings.ingress.deadline_s, deployment.name
