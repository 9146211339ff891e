"""`glimpse.key_limits`: a minute is any minute, and no lease outlives its holder for long."""

import pickle

from hypothesis import given
from hypothesis import strategies as st

from glimpse.errors import RateLimited
from glimpse.key_limits import WINDOW_S, CountedHere, KeyCounts, Kind, Lease
from glimpse.keys import Limits

LIMITS = Limits(requests_per_minute=3, concurrent_requests=2, sessions=1, pictures=9)
MANY = Limits(requests_per_minute=1000, concurrent_requests=2, sessions=1, pictures=9)


def request(id: object, key: str = "a") -> Lease:
    return Lease(str(id), key, Kind.REQUEST)


def session(id: object, key: str = "a") -> Lease:
    return Lease(str(id), key, Kind.SESSION)


def ask(counts: KeyCounts, id: object, now: float) -> RateLimited | None:
    """A request that is over at once."""
    lease = request(id)
    refusal = counts.enter(lease, LIMITS, now)
    counts.settle([], [lease], now)
    return refusal


def test_a_key_that_has_used_its_minute_is_told_when_to_come_back() -> None:
    counts = KeyCounts(30)
    assert [ask(counts, now, now) for now in (0, 10, 20)] == [None] * 3
    refusal = ask(counts, "over", 20.5)
    assert refusal is not None and refusal.retry_after_s == 40
    assert "3 times a minute" in refusal.message
    assert ask(counts, "early", 59.9) is not None
    assert ask(counts, "now", 60) is None
    assert ask(counts, "again", 60) is not None  # the one of second 10 still counts


def test_what_is_refused_does_not_count() -> None:
    counts = KeyCounts(30)
    for now in (0, 0, 0):
        ask(counts, "x", now)
    assert all(ask(counts, "x", 1 + n / 10) for n in range(100))
    assert ask(counts, "x", 60) is None


def test_no_minute_holds_more_than_the_limit() -> None:
    @given(st.lists(st.floats(0, 200), max_size=60).map(sorted))
    def holds(times: list[float]) -> None:
        counts = KeyCounts(30)
        admitted = [now for n, now in enumerate(times) if ask(counts, n, now) is None]
        for start in admitted:
            inside = [now for now in admitted if start <= now < start + WINDOW_S]
            assert len(inside) <= LIMITS.requests_per_minute

    holds()


def test_open_requests_and_sessions_are_bounded_apart_and_by_key() -> None:
    counts = KeyCounts(30)
    assert [counts.enter(request(n), MANY, 0) for n in (1, 2)] == [None, None]
    refusal = counts.enter(request(3), MANY, 0)
    assert refusal is not None and "as many requests open as it may (2)" in refusal.message
    assert refusal.retry_after_s == 1
    assert counts.enter(session(4), MANY, 0) is None
    assert counts.enter(session(5), MANY, 0) is not None
    assert counts.enter(request(6, "b"), MANY, 0) is None
    counts.settle([], [request(1)], 0)
    assert counts.enter(request(7), MANY, 0) is None
    assert counts.enter(request(8), MANY, 0) is not None


def pictures(id: object, count: int, key: str = "a") -> Lease:
    return Lease(str(id), key, Kind.PICTURE, count)


def test_pictures_are_bounded_by_their_number_apart_from_requests_and_by_key() -> None:
    counts = KeyCounts(30)
    assert counts.enter(pictures(1, 4), MANY, 0) is None
    assert counts.enter(pictures(2, 4), MANY, 0) is None
    refusal = counts.enter(pictures(3, 2), MANY, 0)
    assert refusal is not None and "may have 9 pictures in progress" in refusal.message
    assert counts.enter(pictures(4, 1), MANY, 0) is None
    assert counts.enter(pictures(5, 1), MANY, 0) is not None
    assert counts.enter(pictures(6, 9, "b"), MANY, 0) is None
    assert [counts.enter(request(n), MANY, 0) for n in (7, 8)] == [None, None]
    counts.settle([], [pictures(2, 4)], 0)
    assert counts.enter(pictures(9, 4), MANY, 0) is None
    assert counts.enter(pictures(10, 1), MANY, 0) is not None


def test_pictures_lapse_and_are_learnt_again_with_their_number() -> None:
    counts = KeyCounts(30)
    counts.settle([pictures(1, 4), pictures(2, 4)], [], 0)
    assert counts.enter(pictures(3, 2), MANY, 29) is not None
    counts.settle([pictures(2, 4)], [], 29)
    assert counts.enter(pictures(3, 5), MANY, 30) is None
    assert counts.enter(pictures(4, 1), MANY, 30) is not None


def test_pictures_do_not_count_in_the_minute() -> None:
    counts = KeyCounts(30)
    for n in range(9):
        assert counts.enter(pictures(n, 1), LIMITS, 0) is None
    assert [ask(counts, n, 0) for n in range(3)] == [None] * 3
    assert ask(counts, 3, 0) is not None


def test_a_lease_that_nobody_renews_lapses_and_one_that_is_renewed_does_not() -> None:
    counts = KeyCounts(30)
    assert [counts.enter(request(n), MANY, 0) for n in (1, 2)] == [None, None]
    counts.settle([request(2)], [], 20)
    assert counts.enter(request(3), MANY, 29) is not None
    assert counts.enter(request(3), MANY, 30) is None
    assert counts.enter(request(4), MANY, 49) is not None
    assert counts.enter(request(4), MANY, 50) is None


def test_counting_that_begins_anew_learns_what_is_open_and_forgets_what_it_never_knew() -> None:
    counts = KeyCounts(30)
    counts.settle([request(1), request(2)], [request(9)], 0)
    assert counts.enter(request(3), MANY, 0) is not None


async def test_counted_here_it_goes_by_the_clock() -> None:
    now = 0.0
    here = CountedHere(30, clock=lambda: now)
    assert await here.enter(session(1), MANY) is None
    assert await here.enter(session(2), MANY) is not None
    now = 30.0
    assert await here.enter(session(2), MANY) is None
    await here.settle([], [session(2)])
    assert await here.enter(session(3), MANY) is None


def test_a_refusal_and_a_lease_survive_their_way_between_processes() -> None:
    refusal = pickle.loads(pickle.dumps(RateLimited("Later.", 17)))
    assert (refusal.message, refusal.retry_after_s) == ("Later.", 17)
    for lease in (session(1), pictures(2, 4)):
        assert pickle.loads(pickle.dumps(lease)) == lease
