"""`glimpse.fair_share`: who has least goes first, and nobody waits who has its share."""

from collections import Counter
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glimpse.fair_share import OWNER_WAITING, Asked, Verdict, judged, most_waiting

TOTAL = 16


def asked(id: int, owner: str, count: int = 1, waits: bool = False, holder: str = "a") -> Asked:
    """The ids are the order of arrival."""
    return Asked(holder, id, owner, count, since=id, waits=waits)


def ids(asked: tuple[Asked, ...]) -> list[int]:
    return [each.id for each in asked]


def told(verdict: Verdict) -> tuple[list[int], list[int]]:
    return ids(verdict.admitted), ids(verdict.refused)


def judge(*new: Asked, used: Mapping[str, int], total: int = TOTAL) -> tuple[list[int], list[int]]:
    """Who is admitted, and who refused."""
    free = total - sum(used.values())
    return told(judged(new, free=free, total=total, used=used))


def test_who_has_the_fewest_places_goes_first_then_who_came_first() -> None:
    new = asked(1, "a"), asked(2, "a"), asked(3, "b"), asked(4, "c")
    assert judge(*new, used={"a": 8, "b": 4}) == ([4, 3, 1, 2], [])
    assert judge(*new, used={"a": 8, "b": 3, "d": 4}) == ([4], [1, 2])
    assert judge(*new, used={"d": 12}) == ([1, 3, 4, 2], [])


def test_no_request_goes_before_one_that_needs_more_places_than_there_are() -> None:
    new = asked(1, "a", 4), asked(2, "b"), asked(3, "c")
    assert judge(*new, used={"c": 1, "d": 13}) == ([], [])
    assert judge(*new, used={"c": 1, "d": 11}) == ([1], [])


@pytest.mark.parametrize(
    ("used", "owner", "waits"),
    [
        ({"many": 16}, "one", True),
        ({"many": 16}, "many", False),
        ({"many": 9, "one": 7}, "one", True),
        ({"many": 8, "one": 8}, "one", False),
        ({"many": 8, "one": 8}, "many", False),
        ({"a": 6, "b": 5, "c": 5}, "a", False),
        ({"a": 6, "b": 5, "c": 5}, "b", True),  # 5 of 16 / 3
        ({"a": 6, "b": 5, "c": 5}, "d", True),
        ({str(n): 1 for n in range(16)}, "another", True),
        ({str(n): 1 for n in range(16)}, "3", False),
    ],
)
def test_an_owner_with_fewer_places_than_its_share_may_wait(
    used: dict[str, int], owner: str, waits: bool
) -> None:
    assert judge(asked(1, owner), used=used) == ([], [] if waits else [1])


def test_owners_that_wait_have_a_share_as_well() -> None:
    waiting = [asked(n, owner, waits=True) for n, owner in enumerate("wxyz")]
    assert judge(asked(9, "b"), used={"a": 12, "b": 4}) == ([], [])  # of 8
    assert judge(*waiting, asked(9, "b"), used={"a": 12, "b": 4}) == ([], [9])  # of 16 / 6


def test_four_of_an_owner_wait_and_so_many_in_all() -> None:
    new = [asked(n, "one") for n in range(6)]
    assert judge(*new, used={"many": TOTAL}) == ([], [4, 5])
    waiting = [asked(n, str(n % 8), waits=True) for n in range(most_waiting(TOTAL))]
    assert judge(*waiting, asked(99, "one"), used={"many": TOTAL}) == ([], [99])
    assert judge(*waiting[1:], asked(99, "one"), used={"many": TOTAL}) == ([], [])
    assert most_waiting(1) == most_waiting(4) == 4 * OWNER_WAITING and most_waiting(32) == 32


def test_who_was_told_to_wait_is_not_refused_when_its_share_is_smaller() -> None:
    new = asked(1, "one", waits=True), asked(2, "one", waits=True)
    assert judge(*new, used={"one": 12, "many": 4}) == ([], [])


@given(
    st.lists(st.tuples(st.sampled_from("abcd"), st.integers(1, 4), st.booleans()), max_size=30),
    st.dictionaries(st.sampled_from("abcdef"), st.integers(1, 8)),
    st.integers(-2, TOTAL),
)
def test_each_request_is_admitted_refused_or_waits_and_waiting_is_bounded(
    requests: list[tuple[str, int, bool]], used: dict[str, int], free: int
) -> None:
    new = [asked(n, *request) for n, request in enumerate(requests)]
    verdict = judged(new, free=free, total=TOTAL, used=used)
    admitted, refused = set(verdict.admitted), set(verdict.refused)
    assert not admitted & refused and not any(each.waits for each in refused)
    assert sum(each.count for each in admitted) <= max(0, free)
    let_wait = Counter(
        each.owner for each in new if not each.waits and each not in admitted | refused
    )
    before = Counter(each.owner for each in new if each.waits and each not in admitted)
    for owner, count in let_wait.items():
        assert count + before[owner] <= OWNER_WAITING
    assert not let_wait or (let_wait + before).total() <= most_waiting(TOTAL)
