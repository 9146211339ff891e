"""`config.exposure`: without keys, and unless the config says so, nobody listens to the world."""

import pytest
from pydantic import ValidationError

from config.exposure import exposure
from config.settings import LOOPBACK_NAMES, AccessSettings

NOBODY, ANYBODY = AccessSettings(), AccessSettings(allow_anonymous=True)
KEYS = AccessSettings(keys_file="keys.json")


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.53", "::1", "localhost", None])
def test_loopback_needs_no_keys(host: str | None) -> None:
    assert exposure(host, NOBODY) is None


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "", "10.0.0.1", "glimpse", "localhost.example"])
def test_anything_else_needs_keys_or_a_word(host: str) -> None:
    problem = exposure(host, NOBODY)
    assert problem and "access.keys_file" in problem and "allow_anonymous" in problem
    assert exposure(host, ANYBODY) is None
    assert exposure(host, KEYS) is None


def test_keys_and_no_keys_at_once_are_refused() -> None:
    with pytest.raises(ValidationError, match="no meaning beside keys_file"):
        AccessSettings(keys_file="keys.json", allow_anonymous=True)


def test_names_and_pages_are_those_of_loopback_unless_keys_protect() -> None:
    for settings in (NOBODY, ANYBODY):
        assert settings.hosts == LOOPBACK_NAMES
        assert "*" not in settings.origins and "http://localhost:*" in settings.origins
    assert KEYS.hosts == KEYS.origins == ("*",)
    chosen = AccessSettings(keys_file="k", allowed_hosts=("a.example",), allowed_origins=())
    assert (chosen.hosts, chosen.origins) == (("a.example",), ())


@pytest.mark.parametrize(
    "wrong",
    [
        {"allowed_hosts": ["https://a.example"]},
        {"allowed_hosts": ["*.example"]},
        {"allowed_origins": ["a.example"]},
        {"allowed_origins": ["https://a.example/"]},
        {"allowed_origins": ["https://*.example"]},
    ],
)
def test_what_could_never_match_is_refused(wrong: dict[str, list[str]]) -> None:
    with pytest.raises(ValidationError):
        AccessSettings.model_validate(wrong)
