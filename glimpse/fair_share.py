"""Who gets the next places, who waits for one and who is refused. Pure."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

OWNER_WAITING = 4
"""Maximum number of requests of one owner that wait for a place."""


def most_waiting(total: int) -> int:
    """The maximum number of requests that wait for a place, of all owners together. Where there are
    few places, it leaves room for four owners."""
    return max(total, 4 * OWNER_WAITING)


@dataclass(frozen=True, slots=True)
class Asked:
    """A request for places that is not admitted. `since` is on the clock of whoever looks at it.
    One that `waits` was told so, and is not refused any more."""

    holder: str
    id: int
    owner: str
    count: int
    since: float
    waits: bool = False


@dataclass(frozen=True, slots=True)
class Verdict:
    """Who gets places now, and who is refused. The others wait."""

    admitted: tuple[Asked, ...]
    refused: tuple[Asked, ...]


def judged(asked: Iterable[Asked], *, free: int, total: int, used: Mapping[str, int]) -> Verdict:
    """Shares out free places; `used` are those that each owner has.

    The request goes first whose owner has the fewest places, then the oldest. While it does not
    fit, no other request goes before it. A new request may wait where its owner has fewer than its
    share of the places: the total divided by the owners that have places or wait.
    """
    has = Counter(used)
    left = sorted(asked, key=_since)
    admitted = []
    while left:
        first = min(left, key=lambda each: has[each.owner])
        if first.count > free:
            break
        left.remove(first)
        admitted.append(first)
        has[first.owner] += first.count
        free -= first.count
    waiting = Counter(each.owner for each in left if each.waits)
    owners = {owner for owner, count in has.items() if count} | waiting.keys()
    refused = []
    for each in left:
        if each.waits:
            continue
        share = total / len(owners | {each.owner})
        if (
            has[each.owner] < share
            and waiting[each.owner] < OWNER_WAITING
            and waiting.total() < most_waiting(total)
        ):
            waiting[each.owner] += 1
            owners.add(each.owner)
        else:
            refused.append(each)
    return Verdict(tuple(admitted), tuple(refused))


def _since(asked: Asked) -> float:
    return asked.since
