"""Messages of the realtime doors, damaged in every way that a seed leads to."""

import io
import json
import random
from collections.abc import Callable
from typing import Any

import msgpack
from PIL import Image

PROMPT = "a windmill on green hills"


def _picture(picture_format: str) -> bytes:
    buffer = io.BytesIO()
    Image.linear_gradient("L").resize((16, 16)).save(buffer, picture_format)
    return buffer.getvalue()


PNG, JPEG, WEBP = map(_picture, ("PNG", "JPEG", "WEBP"))
PNG_URL = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNgAAAAAgABSK+k"
    "cQAAAABJRU5ErkJggg=="
)
# Sent by fal_client 1.0.3 for {"prompt": "p", "request_id": "r1"}.
FROM_FAL_CLIENT = bytes.fromhex("82a670726f6d7074a170aa726571756573745f6964a27231")

SMALL = {"prompt": PROMPT, "num_inference_steps": 1, "width": 64, "height": 64}
TEXT: list[dict[str, Any]] = [
    {**SMALL, "seed": 1, "request_id": "r1"},
    {**SMALL, "seed": 2, "stream_previews": True, "preview_every": 1, "num_inference_steps": 2},
    {**SMALL, "negative_prompt": "fog", "guidance_scale": 2.5, "scheduler": "ddim"},
    {**SMALL, "image_url": PNG_URL, "strength": 1.0, "output_format": "webp"},
    {"prompt": PROMPT, "image_size": {"width": 64, "height": 64}, "num_images": 2},
    {"seed": 4, "image_size": "square", "width": None, "preview_quality": 10},
]
BINARY = [
    *TEXT,
    {**SMALL, "image": PNG, "mask": PNG, "strength": 1.0},
    {**SMALL, "image": JPEG, "strength": 1.0, "full_quality": True},
    {**SMALL, "image": WEBP, "strength": 1.0, "image_encoding": "data_uri"},
    msgpack.unpackb(FROM_FAL_CLIENT),
]
NAMES = sorted({name for fields in BINARY for name in fields})
# Clears all that a session may have kept, and asks for one picture.
LAST = dict.fromkeys(NAMES) | {**SMALL, "seed": 3, "request_id": "last"}

STRANGE: list[Any] = [
    *(None, True, False, -1, 0, 1, 4, 2**31, 2**32, 2**63 - 1, 2**64 - 1, -(2**63)),
    *(0.0, -0.0, 1e-320, 1e308, float("nan"), float("inf"), float("-inf")),
    *("", "\0", "x" * 2_000, "x" * 5_000, "\U0001f3a8" * 2_000, "\u202e", "nan", "null"),
    *("data:image/png;base64,", "data:image/png;base64,%%%%", "https://localhost/x.png"),
    *([], [1, "2"], {}, {"width": 64}, {"width": 64.5, "height": None}, {"width": 10**9}),
]
ONLY_TEXT: list[Any] = [10**400, -(2**200), "\ud800", "\udfff\ud800"]
ONLY_BINARY: list[Any] = [b"", b"\xff" * 100, PNG[:40], JPEG[:-20], msgpack.ExtType(5, b"12")]


class Mutations:
    """Frames for a door that were valid once; some still are. The same seed, the same frames."""

    def __init__(self, seed: int, *, text: bool) -> None:
        self._dice = random.Random(seed)
        self._text = text
        self._messages = TEXT if text else BINARY
        self._strange = STRANGE + (ONLY_TEXT if text else ONLY_BINARY)

    def frame(self) -> bytes | str:
        fields = dict(self._dice.choice(self._messages))
        for _ in range(self._dice.randrange(3)):
            self._dice.choice(_OF_FIELDS)(self, fields)
        written: bytes = json.dumps(fields).encode() if self._text else msgpack.packb(fields)
        for _ in range(self._dice.choice((0, 0, 1, 1, 2, 5))):
            written = self._dice.choice(_OF_BYTES)(self, written)
        if self._dice.random() < 0.02:  # the wrong kind of frame
            return written if self._text else written.decode("latin-1")
        return written.decode("utf-8", "replace") if self._text else written

    def _swap_type(self, fields: dict[str, Any]) -> None:
        fields[self._dice.choice(NAMES)] = self._dice.choice(self._strange)

    def _rename(self, fields: dict[str, Any]) -> None:
        name = self._dice.choice(list(fields) or ["prompt"])
        fields[name[:-1] + self._dice.choice(("", "x", "\0", "\u00e9" * 100))] = fields.pop(name, 1)

    def _clear(self, fields: dict[str, Any]) -> None:
        fields[self._dice.choice(NAMES)] = None

    def _nest(self, fields: dict[str, Any]) -> None:
        """Python's encoders go no deeper; `_bomb` does."""
        nested: Any = 1
        for _ in range(self._dice.choice((1, 2, 60, 300))):
            nested = [nested] if self._dice.random() < 0.5 else {"width": nested}
        fields[self._dice.choice(NAMES)] = nested

    def _flip_a_bit(self, written: bytes) -> bytes:
        damaged = bytearray(written or b"\0")
        damaged[self._dice.randrange(len(damaged))] ^= 1 << self._dice.randrange(8)
        return bytes(damaged)

    def _end_early(self, written: bytes) -> bytes:
        return written[: self._dice.randrange(len(written) + 1)]

    def _insert(self, written: bytes) -> bytes:
        where = self._dice.randrange(len(written) + 1)
        inserted = self._dice.randbytes(self._dice.choice((1, 1, 4, 100)))
        return written[:where] + inserted + written[where:]

    def _leave_out(self, written: bytes) -> bytes:
        a, b = sorted(self._dice.randrange(len(written) + 1) for _ in range(2))
        return written[:a] + written[min(b, a + 8) :]

    def _splice(self, written: bytes) -> bytes:
        """The head of one message and the tail of another."""
        other = self._dice.choice(self._messages)
        tail: bytes = json.dumps(other).encode() if self._text else msgpack.packb(other)
        a, b = self._dice.randrange(len(written) + 1), self._dice.randrange(len(tail) + 1)
        return written[:a] + tail[b:]

    def _bomb(self, written: bytes) -> bytes:
        bombs = (
            (b"[" * 50_000, b'{"a":' * 5_000, b"[" + b"{}," * 50_000)
            if self._text
            else (b"\x91" * 50_000, b"\x81\xa1a" * 5_000, b"\x9f" * 15 + b"\xdd\xff\xff\xff\xff")
        )
        where = self._dice.randrange(len(written) + 1)
        return written[:where] + self._dice.choice(bombs)


_OF_FIELDS: list[Callable[[Mutations, dict[str, Any]], None]] = [
    Mutations._swap_type,
    Mutations._swap_type,
    Mutations._rename,
    Mutations._clear,
    Mutations._nest,
]
_OF_BYTES: list[Callable[[Mutations, bytes], bytes]] = [
    Mutations._flip_a_bit,
    Mutations._flip_a_bit,
    Mutations._end_early,
    Mutations._insert,
    Mutations._leave_out,
    Mutations._splice,
    Mutations._bomb,
]
