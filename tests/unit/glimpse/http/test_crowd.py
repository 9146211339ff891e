"""`glimpse.http.crowd`: who goes when there are too many."""

import random

from glimpse.http.crowd import Crowd, Standing

STRANGER, IDLE, SENDING, BUSY = Standing


def crowd_of(*standings: Standing) -> Crowd[int]:
    """Full of connections that stand so, by their numbers from 0."""
    crowd = Crowd[int](len(standings))
    for number, standing in enumerate(standings):
        assert crowd.enter(number) is None
        crowd.stands(number, standing)
    return crowd


def test_nobody_goes_while_there_is_room() -> None:
    crowd = Crowd[int](3)
    assert [crowd.enter(number) for number in range(3)] == [None] * 3
    crowd.leave(1)
    assert crowd.enter(3) is None and len(crowd) == 3


def test_strangers_go_before_all_others_the_oldest_first() -> None:
    crowd = crowd_of(IDLE, STRANGER, BUSY, STRANGER)
    assert [crowd.enter(number) for number in (4, 5, 6)] == [1, 3, 4]
    assert len(crowd) == 4


def test_then_those_go_that_are_idle_for_longest() -> None:
    crowd = crowd_of(BUSY, IDLE, IDLE)
    crowd.stands(1, BUSY)
    crowd.stands(1, IDLE)
    assert crowd.enter(3) == 2
    crowd.stands(3, BUSY)
    assert crowd.enter(4) == 1


def test_then_those_whose_body_is_on_its_way() -> None:
    crowd = crowd_of(SENDING, IDLE, SENDING, BUSY)
    assert crowd.enter(4) == 1
    crowd.stands(4, BUSY)
    assert crowd.enter(5) == 0
    crowd.stands(5, BUSY)
    assert crowd.enter(6) == 2
    crowd.stands(6, BUSY)
    assert crowd.enter(7) == 7


def test_where_all_are_busy_the_newcomer_goes() -> None:
    crowd = crowd_of(BUSY, BUSY)
    assert [crowd.enter(number) for number in (2, 3)] == [2, 3]
    crowd.stands(0, IDLE)
    assert crowd.enter(4) == 0


def test_one_that_has_left_stands_nowhere() -> None:
    crowd = crowd_of(STRANGER, BUSY)
    crowd.leave(0)
    crowd.leave(0)
    crowd.stands(0, BUSY)
    assert len(crowd) == 1
    assert crowd.enter(2) is None and crowd.enter(3) == 2


def test_one_address_may_be_kept_from_taking_all() -> None:
    crowd = Crowd[int](10, most_of_address=2)
    assert [crowd.enter(number, "a") for number in range(4)] == [None, None, 0, 1]
    assert [crowd.enter(number, "b") for number in (10, 11)] == [None, None]
    for number in (2, 3):
        crowd.stands(number, BUSY)
    assert crowd.enter(4, "a") == 4
    crowd.leave(2)
    assert crowd.enter(5, "a") is None
    assert crowd.enter(6, None) is None  # whose address nobody knows


def test_without_that_setting_an_address_means_nothing() -> None:
    crowd = Crowd[int](10)
    assert [crowd.enter(number, "a") for number in range(10)] == [None] * 10


def test_whatever_happens_there_are_never_too_many_and_nobody_busy_goes() -> None:
    """Held against a list that is searched from the start each time."""
    draw = random.Random(7)
    crowd, there = Crowd[int](20), dict[int, Standing]()
    for number in range(5_000):
        goes = crowd.enter(number)
        there[number] = STRANGER
        if goes is None:
            assert len(there) <= 20
        else:
            assert len(there) == 21
            ranked = [*(n for n in there if there[n] is STRANGER and n != number)]
            ranked += [n for n in there if there[n] is IDLE]
            ranked += [n for n in there if there[n] is SENDING]
            assert goes == (ranked or [number])[0]
            del there[goes]
        for each in draw.sample([*there], min(3, len(there))):
            standing = draw.choice([*Standing, None])
            if standing is None:
                crowd.leave(each)
                del there[each]
            elif standing is not there[each]:
                crowd.stands(each, standing)
                del there[each]  # to the end
                there[each] = standing
        assert len(crowd) == len(there)
