"""`deployments.access`: keys as they are on disk at this moment. Ray is imported, never started."""

import os
from pathlib import Path

import pytest

from config.keys import KeysError, create, revoke
from config.settings import AccessSettings
from deployments.access import KeysOnDisk, access_options
from glimpse.errors import AccessUnavailable
from glimpse.key_limits import CountedHere


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keys.json"


def test_changes_of_the_file_count_at_once(path: Path) -> None:
    first = create(path, "first", {})
    keys = KeysOnDisk(path, AccessSettings(keys_file=str(path)))
    assert keys() is keys()
    assert keys().find(first)
    second = create(path, "second", {})
    assert keys().find(first) and keys().find(second)
    revoke(path, "first")
    assert keys().find(first) is None and keys().find(second)


def test_a_file_that_is_swapped_by_a_link_is_noticed(tmp_path: Path, path: Path) -> None:
    """As Kubernetes does it with a secret."""
    for name in ("old", "new"):
        create(tmp_path / name, name, {})
    path.symlink_to("old")
    keys = KeysOnDisk(path, AccessSettings(keys_file=str(path)))
    (tmp_path / "link").symlink_to("new")
    os.replace(tmp_path / "link", path)
    assert [key.name for key in keys().keys] == ["new"]


def test_a_file_that_is_gone_or_wrong_keeps_everybody_out_until_it_is_right(path: Path) -> None:
    key = create(path, "web", {})
    right = path.read_bytes()
    keys = KeysOnDisk(path, AccessSettings(keys_file=str(path)))
    path.unlink()
    for _ in range(2):
        with pytest.raises(AccessUnavailable):
            keys()
    path.write_text("{")
    with pytest.raises(AccessUnavailable):
        keys()
    path.write_bytes(right)
    assert keys().find(key)


def test_an_application_does_not_start_without_the_file_it_names(path: Path) -> None:
    with pytest.raises(KeysError, match="No such file"):
        access_options(AccessSettings(keys_file=str(path)), CountedHere(30))


def test_without_a_file_no_key_is_due() -> None:
    assert access_options(AccessSettings(), CountedHere(30)).keys is None


def test_a_lease_is_renewed_well_before_it_lapses(path: Path) -> None:
    create(path, "web", {})
    settings = AccessSettings(keys_file=str(path), lease_s=12, limits_patience_s=3)
    due = access_options(settings, CountedHere(12)).keys
    assert due is not None and (due.renew_s, due.patience_s) == (4, 3)
