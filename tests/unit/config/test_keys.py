"""`config.keys`: a key is printed once and kept as a hash."""

import json
import stat
from pathlib import Path

import pytest

from config.keys import KeysError, keys_path, main, read_keys
from config.settings import ROOT, AccessSettings

SETTINGS = AccessSettings(keys_file="keys.json", requests_per_minute=60, sessions=3)


def run(capsys: pytest.CaptureFixture[str], path: Path, *arguments: str) -> tuple[int, str, str]:
    status = main(["--file", str(path), *arguments])
    said = capsys.readouterr()
    return status, said.out.strip(), said.err.strip()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keys.json"


def test_a_key_is_printed_once_and_only_its_hash_is_kept(
    path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, key, _ = run(capsys, path, "create", "web")
    assert status == 0 and key.startswith("glimpse_")
    assert key not in path.read_text() and key.removeprefix("glimpse_") not in path.read_text()
    found = read_keys(path).ring(SETTINGS).find(key)
    assert found is not None and found.name == "web"
    status, listed, _ = run(capsys, path, "list")
    assert status == 0 and listed.startswith("web  20")
    assert found.digest not in listed


def test_the_file_is_its_owners_alone(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("a", "b"):
        run(capsys, path, "create", name)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(path.parent.iterdir()) == [path]


def test_keys_come_and_go_and_the_secret_of_tokens_stays(
    path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, first, _ = run(capsys, path, "create", "first")
    secret = read_keys(path).token_secret
    _, second, _ = run(capsys, path, "create", "second", "--sessions", "9", "--pictures", "7")
    assert run(capsys, path, "revoke", "first")[0] == 0
    ring = read_keys(path).ring(SETTINGS)
    assert ring.find(first) is None
    found = ring.find(second)
    assert found is not None
    limits = found.limits
    assert (limits.sessions, limits.requests_per_minute, limits.concurrent_requests) == (9, 60, 16)
    assert (limits.pictures, AccessSettings().pictures) == (7, 24)
    assert ring.token_secret == secret.encode() and len(secret) >= 43
    assert run(capsys, path, "list")[1].endswith("sessions=9 pictures=7")


def test_two_files_have_different_secrets(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a", "b"):
        run(capsys, tmp_path / name, "create", "web")
    assert read_keys(tmp_path / "a").token_secret != read_keys(tmp_path / "b").token_secret


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("create", "web"), "there is a key web already"),
        (("create", "a b"), "name: "),
        (("create", "x", "--sessions", "0"), "sessions: "),
        (("create", "x", "--pictures", "0"), "pictures: "),
        (("revoke", "nobody"), "there is no key nobody"),
    ],
)
def test_what_cannot_be_is_said_and_changes_nothing(
    path: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], said: str
) -> None:
    run(capsys, path, "create", "web")
    before = path.read_bytes()
    status, out, err = run(capsys, path, *arguments)
    assert (status, out) == (1, "") and said in err
    assert path.read_bytes() == before


def test_a_missing_file_says_how_it_is_made(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(KeysError, match=r"No such file.*config\.keys.* create NAME"):
        read_keys(path)
    assert run(capsys, path, "list")[0] == 1


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"token_secret": "hunter2"}, "token_secret"),
        ({"keys": [{"name": "a", "sha256": "hunter2", "created": "2026-01-01T00:00:00Z"}]}, "sha"),
        ({"hunter2": 1}, "hunter2"),
    ],
)
def test_a_wrong_file_is_refused_without_telling_what_is_in_it(
    path: Path, change: dict[str, object], where: str
) -> None:
    path.write_text(json.dumps({"token_secret": "s" * 32, "keys": []} | change))
    with pytest.raises(KeysError, match=where) as caught:
        read_keys(path)
    assert where == "hunter2" or "hunter2" not in str(caught.value)


def test_a_path_counts_from_the_repository() -> None:
    assert keys_path(SETTINGS) == ROOT / "keys.json"
    assert keys_path(AccessSettings(keys_file="/etc/keys.json")) == Path("/etc/keys.json")
    assert keys_path(AccessSettings()) is None
