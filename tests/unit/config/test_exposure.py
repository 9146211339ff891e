"""`config.exposure`: without keys, and unless the config says so, nobody listens to the world.

And Ray's own ports ask for a token, where there are keys or strangers.
"""

import pytest
import yaml
from pydantic import ValidationError

from config.exposure import NO_TOKEN, exposure, token_due
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


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost", None])
def test_on_loopback_a_token_is_due_where_keys_are(host: str | None) -> None:
    assert not token_due(host, NOBODY)
    assert not token_due(host, ANYBODY)
    assert token_due(host, KEYS)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "", "10.0.0.1", "glimpse", "127.1"])
def test_anywhere_else_it_always_is(host: str) -> None:
    assert token_due(host, NOBODY) and token_due(host, ANYBODY) and token_due(host, KEYS)


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", None])
@pytest.mark.parametrize("keys_file", ["keys.json", None])
def test_the_config_has_the_last_word_on_the_token(host: str | None, keys_file: str | None) -> None:
    required = AccessSettings(keys_file=keys_file, ray_token="required")
    off = AccessSettings(keys_file=keys_file, ray_token="off")
    assert token_due(host, required) and not token_due(host, off)


@pytest.mark.parametrize("written", ["off", "'off'", "false", "Off"])
def test_yaml_takes_off_for_false(written: str) -> None:
    settings = AccessSettings.model_validate(yaml.safe_load(f"ray_token: {written}"))
    assert settings.ray_token == "off"


@pytest.mark.parametrize("written", ["on", "yes", "'no token'", "0", "''", "[]", "optional"])
def test_any_other_word_is_refused(written: str) -> None:
    with pytest.raises(ValidationError, match="'required' or 'off'"):
        AccessSettings.model_validate(yaml.safe_load(f"ray_token: {written}"))


def test_the_refusal_has_the_lines_that_cure_it() -> None:
    for line in ("python -m config.ray_token", "set -a; . config/serve.env; set +a"):
        assert f"\n    {line} " in NO_TOKEN
    assert "authOptions: {mode: token}" in NO_TOKEN and "access.ray_token: off" in NO_TOKEN
