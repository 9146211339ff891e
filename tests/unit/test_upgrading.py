"""`docs/upgrading.md`: the private parts of other libraries that the code relies on are there."""

import re
from importlib import import_module
from typing import Any

import pytest

from config.settings import ROOT

ROWS = re.findall(
    r"^\| `([\w.]+)`[^|]*\|[^|]*\| `([^`]+)` \| `([^`]+)` \|$",
    (ROOT / "docs" / "upgrading.md").read_text(),
    re.MULTILINE,
)


def found(name: str) -> Any:
    """What a dotted name means: a module, and then attributes of it."""
    parts = name.split(".")
    for count in range(len(parts), 0, -1):
        try:
            value: Any = import_module(".".join(parts[:count]))
        except ModuleNotFoundError:
            continue
        for part in parts[count:]:
            value = getattr(value, part)
        return value
    raise LookupError(name)


def test_there_are_rows() -> None:
    assert len(ROWS) == (ROOT / "docs" / "upgrading.md").read_text().count("\n| `")


@pytest.mark.parametrize(("name", "user", "test"), ROWS, ids=[name for name, *_ in ROWS])
def test_a_private_part_is_where_the_page_says(name: str, user: str, test: str) -> None:
    found(name)
    attribute = name.rsplit(".", 1)[-1]
    assert attribute in (ROOT / user).read_text(), f"{user} does not use it any more"
    if test.startswith("tests/"):
        assert (ROOT / test).exists()
