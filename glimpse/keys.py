"""API keys: how they are made, what is kept of them, and which one a client shows."""

import hashlib
import hmac
import secrets
from dataclasses import dataclass

PREFIX = "glimpse_"


@dataclass(frozen=True, slots=True)
class Limits:
    """What one key may do. `sessions` are open WebSockets; a request is open until its answer has
    ended, and a stream is one. `pictures` are those in progress or waiting for a place, but for the
    sessions'."""

    requests_per_minute: int
    concurrent_requests: int
    sessions: int
    pictures: int


@dataclass(frozen=True, slots=True)
class Key:
    """A key as the server knows it: not the key itself."""

    name: str
    digest: str
    limits: Limits

    @property
    def id(self) -> str:
        """What tokens name it by: another key that gets the same name later is another one."""
        return self.digest[:16]

    @property
    def owner(self) -> str:
        """What its pictures are known by wherever they compete for places and turns. A hash of the
        digest, so that the digest itself stays in the process that checks keys."""
        return digest_of(self.digest)[:16]


@dataclass(frozen=True, slots=True)
class KeyRing:
    """Every key, and the secret that tokens are signed with."""

    keys: tuple[Key, ...]
    token_secret: bytes

    def find(self, key: str) -> Key | None:
        """The key that a client shows. Takes as long whichever it is, and if it is none."""
        digest = digest_of(key)
        found = None
        for each in self.keys:
            if hmac.compare_digest(each.digest, digest):
                found = each
        return found

    def by_id(self, key_id: str) -> Key | None:
        return next((key for key in self.keys if key.id == key_id), None)


def new_key() -> str:
    return PREFIX + secrets.token_urlsafe(32)


def new_token_secret() -> str:
    return secrets.token_urlsafe(32)


def digest_of(key: str) -> str:
    """What is stored of a key.

    A slow, salted hash is for passwords, which can be guessed. A key is 256 bits from the system's
    generator: nobody guesses one from its SHA-256, however fast that is, and it is looked up with
    every request.
    """
    return hashlib.sha256(key.encode()).hexdigest()
