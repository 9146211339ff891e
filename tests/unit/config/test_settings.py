"""`config.settings`: paths, names, and defaults that fit one another."""

import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from config.check import load_serve_config, serve_config_paths
from config.settings import ROOT, AppSettings, IngressSettings, LatentRGBFile, ModelSettings


def test_a_folder_of_the_repository_is_absolute_and_a_hubs_name_stays() -> None:
    model = ModelSettings()
    assert model.resolve("models/miniature") == str(ROOT / "models" / "miniature")
    assert model.resolve("/tmp") == "/tmp"
    assert model.resolve("stabilityai/sdxl") == "stabilityai/sdxl"


@pytest.mark.parametrize(
    "settings",
    [
        {"revision": "main"},
        {"path": "us/model", "tiny_vae_revision": "main"},
        {"path": "/tmp", "revision": "main"},
        {"vae_revision": "main"},
        {"path": "us/model", "revision": "main", "vae": "/tmp", "vae_revision": "main"},
    ],
)
def test_a_revision_of_a_folder_is_refused(settings: dict[str, str]) -> None:
    with pytest.raises(ValidationError, match="is a folder, which has no revisions; leave"):
        ModelSettings.model_validate(settings)


@pytest.mark.parametrize(
    "settings",
    [
        {"path": "us/model", "revision": "main", "vae_revision": "old"},
        {"path": "us/model", "revision": "main", "vae": "/tmp"},
        {"vae": "us/vae", "vae_revision": "main"},
        {"tiny_vae": "us/tiny", "tiny_vae_revision": "main"},
    ],
)
def test_each_repository_has_a_revision_of_its_own(settings: dict[str, str]) -> None:
    ModelSettings.model_validate(settings)


def test_a_folder_that_only_another_node_has_is_seen_there(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    model = ModelSettings(path=str(folder), revision="main")
    folder.mkdir()
    with pytest.raises(ValueError, match="has no revisions"):
        model.resolve(*model.of_model)


@pytest.mark.parametrize("alias", ["sdxl", "a/b/c", "docs/static", "v1/images", "a b/c", ""])
def test_an_alias_that_no_route_could_answer_to_is_refused(alias: str) -> None:
    with pytest.raises(ValidationError):
        IngressSettings.model_validate({"aliases": [alias]})


def test_settings_are_frozen_and_know_every_key() -> None:
    with pytest.raises(ValidationError):
        AppSettings.model_validate({"denoiser": {"thread": 1}})
    with pytest.raises(ValidationError):
        AppSettings().model = ModelSettings()  # type: ignore[misc]


def test_only_the_built_in_model_has_its_colours_without_being_told() -> None:
    own = ModelSettings(path="stabilityai/sdxl", latent_rgb="models/miniature/latent_rgb.json")
    assert ModelSettings().read_latent_rgb() == own.read_latent_rgb() is not None
    assert ModelSettings(path="stabilityai/sdxl").read_latent_rgb() is None


def test_colours_are_read_from_the_repository_or_from_anywhere(tmp_path: Path) -> None:
    sdxl = ModelSettings(latent_rgb="config/profiles/sdxl_latent_rgb.json").read_latent_rgb()
    assert sdxl is not None
    # What ComfyUI publishes, in comfy/latent_formats.py.
    assert sdxl.factors[0] == (0.3651, 0.4232, 0.4341)
    assert sdxl.factors[3] == (-0.3165, -0.2492, -0.2188)
    assert sdxl.bias == (0.1084, -0.0175, -0.0011)
    elsewhere = tmp_path / "mine.json"
    elsewhere.write_text(sdxl.model_dump_json())
    assert ModelSettings(latent_rgb=str(elsewhere)).read_latent_rgb() == sdxl


@pytest.mark.parametrize(
    "change",
    [
        {"factors": [[0, 0, 0]] * 16},  # of another family's latents
        {"factors": [[0, 0, 0, 0]] * 4},
        {"bias": [0, 0, float("nan")]},
        {"bais": [0, 0, 0]},
    ],
)
def test_a_file_that_is_no_map_from_four_channels_to_colours_is_refused(
    change: dict[str, object],
) -> None:
    right = {"source": "a test", "factors": [[0, 0, 0]] * 4, "bias": [0, 0, 0]}
    LatentRGBFile.model_validate_json(json.dumps(right))
    with pytest.raises(ValidationError):
        LatentRGBFile.model_validate_json(json.dumps(right | change))


@pytest.mark.parametrize("path", serve_config_paths(), ids=lambda path: path.stem)
def test_every_application_of_ours_can_make_rough_previews(path: Path) -> None:
    for application in load_serve_config(path).applications:
        model = AppSettings.model_validate(application.args).model
        assert model.read_latent_rgb() is not None
