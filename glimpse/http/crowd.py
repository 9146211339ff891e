"""Which connections stay when there are too many: pure, without sockets."""

from collections import OrderedDict
from collections.abc import Hashable
from enum import Enum
from typing import Generic, TypeVar

T = TypeVar("T", bound=Hashable)


class Standing(Enum):
    """Of a connection, in the order in which they go."""

    STRANGER = "nothing that it asked for was served"
    IDLE = "something was served, and nothing is open"
    SENDING = "the body of a request is on its way"
    BUSY = "a request is open"  # or a session; it never goes


class Crowd(Generic[T]):
    """At most `most` connections, and of one address at most `most_of_address`.

    Who has no place for a newcomer gives up the connection that has been a stranger for longest,
    or else idle, or else sending. If all others are busy the newcomer goes.
    Everything takes the same time however many there are.
    """

    def __init__(self, most: int, most_of_address: int | None = None) -> None:
        self._all = _Group[T](most)
        self._most_of_address = most_of_address
        self._of_address: dict[str, _Group[T]] = {}
        self._addresses: dict[T, str | None] = {}

    def __len__(self) -> int:
        return len(self._addresses)

    def enter(self, newcomer: T, address: str | None = None) -> T | None:
        """Takes it in as a stranger. Returns the one that has to go: another, or itself."""
        if self._most_of_address is None:
            address = None
        elif address is not None and address not in self._of_address:
            self._of_address[address] = _Group(self._most_of_address)
        self._addresses[newcomer] = address
        self.stands(newcomer, Standing.STRANGER)
        for group in reversed(self._groups(newcomer)):
            if group.too_many:
                leaving = group.first_to_go(newcomer)
                self.leave(leaving)
                return leaving
        return None

    def stands(self, each: T, standing: Standing) -> None:
        """Of one that has left already, nothing changes."""
        for group in self._groups(each):
            group.put(each, standing)

    def leave(self, each: T) -> None:
        for group in self._groups(each):
            group.remove(each)
        address = self._addresses.pop(each, None)
        if address is not None and not len(self._of_address[address]):
            del self._of_address[address]

    def _groups(self, each: T) -> list["_Group[T]"]:
        if each not in self._addresses:
            return []
        address = self._addresses[each]
        return [self._all] if address is None else [self._all, self._of_address[address]]


class _Group(Generic[T]):
    """Each standing has its members in the order in which they came to it."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._standing: dict[T, Standing] = {}
        self._by_standing: dict[Standing, OrderedDict[T, None]] = {
            standing: OrderedDict() for standing in Standing
        }

    def __len__(self) -> int:
        return len(self._standing)

    @property
    def too_many(self) -> bool:
        return len(self) > self._most

    def put(self, each: T, standing: Standing) -> None:
        if self._standing.get(each) is standing:
            return
        self.remove(each)
        self._standing[each] = standing
        self._by_standing[standing][each] = None

    def remove(self, each: T) -> None:
        standing = self._standing.pop(each, None)
        if standing is not None:
            del self._by_standing[standing][each]

    def first_to_go(self, newcomer: T) -> T:
        for standing in (Standing.STRANGER, Standing.IDLE, Standing.SENDING):
            oldest = next(iter(self._by_standing[standing]), newcomer)
            if oldest is not newcomer:
                return oldest
        return newcomer
