"""`config.ray_token`: the token of Ray's own ports, which its owner alone can read."""

import os
from pathlib import Path

import pytest

from config import ray_token


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_it_is_made_once_and_never_shown(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = home / ".ray" / "auth_token"
    before = os.umask(0)
    try:
        assert ray_token.main() == 0
    finally:
        os.umask(before)
    token = path.read_text()
    assert len(bytes.fromhex(token)) == 32
    assert (mode(path), mode(path.parent)) == (0o600, 0o700)
    assert ray_token.main() == 0
    assert path.read_text() == token
    said = capsys.readouterr().out
    assert str(path) in said and token not in said and "Other users" not in said


@pytest.mark.parametrize("nothing", ["", "\n", " \t\r\n" * 40])
def test_a_file_without_a_token_gets_one(home: Path, nothing: str) -> None:
    path = home / ".ray" / "auth_token"
    path.parent.mkdir()
    path.write_text(nothing)
    path.chmod(0o644)
    assert ray_token.main() == 0
    assert len(bytes.fromhex(path.read_text())) == 32 and mode(path) == 0o600


def test_white_space_around_a_token_is_left(home: Path) -> None:
    path = home / ".ray" / "auth_token"
    path.parent.mkdir()
    path.write_text(" a token\n")
    assert ray_token.main() == 0
    assert path.read_text() == " a token\n"


def test_a_link_to_the_token_is_followed(home: Path) -> None:
    path = home / ".ray" / "auth_token"
    path.parent.mkdir()
    path.symlink_to(home / "elsewhere")
    assert ray_token.main() == 0
    assert path.is_symlink() and mode(home / "elsewhere") == 0o600


@pytest.mark.parametrize("wide", [0o644, 0o640, 0o604, 0o666, 0o622])
def test_a_file_that_others_can_use_is_closed_to_them(
    home: Path, capsys: pytest.CaptureFixture[str], wide: int
) -> None:
    ray_token.main()
    path = home / ".ray" / "auth_token"
    path.chmod(wide)
    assert ray_token.main() == 0
    assert mode(path) == 0o600
    assert "Other users" in capsys.readouterr().out
    assert not ray_token.keep_from_others()


def test_a_file_of_ones_own_choice_keeps_its_rights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "secret" / "token"
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(path))
    assert ray_token.main() == 0
    assert mode(path) == 0o600 and len(path.read_text()) == 64
    path.chmod(0o640)
    assert ray_token.main() == 0
    assert mode(path) == 0o640


def test_a_token_in_the_environment_needs_no_file(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN", "anything")
    assert ray_token.main() == 0
    assert not (home / ".ray").exists() and not ray_token.keep_from_others()


def test_white_space_in_the_environment_is_no_token(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN", " \n")
    assert ray_token.main() == 1
    assert "unset it" in capsys.readouterr().err and not (home / ".ray").exists()


@pytest.mark.parametrize("chosen", [False, True])
def test_a_folder_is_no_token(
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    chosen: bool,
) -> None:
    path = home / ".ray" / "auth_token"
    path.mkdir(parents=True, mode=0o755)
    if chosen:
        monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(path))
    assert ray_token.main() == 1
    assert f"{path}: Is a directory" in capsys.readouterr().err
    assert mode(path) == 0o755


def test_where_it_cannot_be_written_it_says_so(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (home / ".ray").touch()
    assert ray_token.main() == 1
    assert str(home / ".ray") in capsys.readouterr().err
