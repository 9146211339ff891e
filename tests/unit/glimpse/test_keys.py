"""`glimpse.keys`: keys nobody can guess, and a search that tells nothing by how long it takes."""

import hmac

import pytest

from glimpse.keys import Key, KeyRing, Limits, digest_of, new_key

LIMITS = Limits(requests_per_minute=10, concurrent_requests=2, sessions=1, pictures=24)


def ring(*keys: str) -> KeyRing:
    named = enumerate(keys)
    return KeyRing(tuple(Key(f"k{n}", digest_of(key), LIMITS) for n, key in named), b"s" * 32)


def test_keys_are_long_and_unlike_one_another() -> None:
    made = {new_key() for _ in range(100)}
    assert len(made) == 100
    assert all(key.startswith("glimpse_") and len(key) >= 8 + 43 for key in made)


def test_a_key_is_found_by_itself_and_nothing_else_is() -> None:
    first, second = new_key(), new_key()
    keys = ring(first, second)
    assert [key and key.name for key in map(keys.find, (first, second))] == ["k0", "k1"]
    for wrong in ("", "any", first[:-1], first + "x", digest_of(first), first.upper(), "ä\u1234"):
        assert keys.find(wrong) is None
    assert ring().find(first) is None


def test_every_key_is_compared_and_each_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[str] = []

    def counted(kept: str, shown: str) -> bool:
        compared.append(kept)
        return real(kept, shown)

    real = hmac.compare_digest
    monkeypatch.setattr("glimpse.keys.hmac.compare_digest", counted)
    keys = ring("a", "b", "c")
    for shown in ("a", "c", "neither"):
        compared.clear()
        keys.find(shown)
        assert compared == [key.digest for key in keys.keys]


def test_an_id_is_of_the_key_and_not_of_its_name() -> None:
    keys = ring("a", "b")
    assert [keys.by_id(key.id) for key in keys.keys] == list(keys.keys)
    renewed = Key("k0", digest_of("another"), LIMITS)
    assert keys.by_id(renewed.id) is None
