"""`deployments.ingress`: what the settings say about rough previews is what the flow gets."""

import numpy as np

from config.settings import AppSettings
from deployments.ingress import _rough_previews
from glimpse.request import PreviewSpec

SPEC = PreviewSpec(1, "jpeg", 70, 512)


def test_rough_previews_are_as_large_as_the_picture_and_as_late_as_the_settings_say() -> None:
    settings = AppSettings.model_validate({"ingress": {"preview_limit_s": 0.25}})
    rough = _rough_previews(settings)
    assert rough is not None
    picture = rough.decode(np.zeros((4, 16, 24), np.float32), SPEC)
    assert (picture.width, picture.height) == (192, 128)
    assert rough.limit_s == 0.25


def test_a_model_whose_colours_nobody_named_has_none() -> None:
    assert _rough_previews(AppSettings.model_validate({"model": {"path": "some/model"}})) is None
