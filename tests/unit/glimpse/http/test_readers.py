"""`glimpse.http.readers`: when pictures are read, on which thread, and who waits for it."""

import asyncio
import base64
import dataclasses
import os
import struct
import threading
from typing import Any

import numpy as np
import pytest
from PIL import Image

from glimpse.errors import InvalidRequest, Overloaded
from glimpse.event_log import Final
from glimpse.generation import SessionMemory
from glimpse.http import readers
from glimpse.http.readers import LARGE_PIXELS, NICENESS, read, read_pictures
from glimpse.input_pictures import masks, reading
from glimpse.input_pictures.inspection import InputPicture
from glimpse.ports import Priority
from glimpse.request import GenerationRequest
from tests.fakes import looked_at, make_request, until
from tests.strange_pictures import READABLE, chunk, encoded, with_chunks
from tests.unit.glimpse.http.asgi import Server
from tests.unit.glimpse.http.websocket import Socket
from tests.wire.sent import ORANGE, ORANGE_URL

SMALL = looked_at(ORANGE)
NOISE = Image.effect_noise((64, 64), 80).convert("RGB")


def large() -> InputPicture:
    return dataclasses.replace(SMALL, stored_size=(LARGE_PIXELS + 1, 1))


def damaged() -> bytes:
    """Sound in its header, and broken in its pixels."""
    data = bytearray(encoded(NOISE, "PNG"))
    at = data.index(b"IDAT")
    data[at + 40 : at + 60] = bytes(20)
    return bytes(data)


class Gate:
    """Work that waits, and counts how many of it are under way."""

    def __init__(self) -> None:
        self.opened = threading.Event()
        self.begun: list[str] = []
        self.ended = 0

    def __call__(self, picture: object, name: str = "") -> str:
        self.begun.append(name)
        self.opened.wait(5)
        self.ended += 1
        return name


async def test_one_large_picture_is_read_at_a_time_and_small_ones_meanwhile() -> None:
    gate, other = Gate(), Gate()
    other.opened.set()
    reading = [asyncio.create_task(read(large(), gate, name)) for name in ("first", "second")]
    await until(lambda: gate.begun == ["first"])
    assert await read(SMALL, other, "small") == "small"
    assert gate.begun == ["first"]
    gate.opened.set()
    assert await asyncio.gather(*reading) == ["first", "second"]


@pytest.mark.parametrize("picture_format", ["AVIF", "HEIF"])
async def test_what_may_be_larger_than_it_says_is_read_as_a_large_one(picture_format: str) -> None:
    gate = Gate()
    first = asyncio.create_task(read(large(), gate, "first"))
    await until(lambda: len(gate.begun) == 1)
    liar = dataclasses.replace(SMALL, format=picture_format)
    second = asyncio.create_task(read(liar, gate, "second"))
    await asyncio.sleep(0.01)
    assert gate.begun == ["first"]
    gate.opened.set()
    assert await second == "second" and await first == "first"


async def test_the_thread_that_reads_large_pictures_gives_way_to_others() -> None:
    def niceness(_: object) -> int:
        return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())

    mine = niceness(None)
    assert await read(large(), niceness) == max(mine, NICENESS)
    assert await read(SMALL, niceness) == mine


async def test_whoever_leaves_waits_until_the_thread_is_done() -> None:
    gate = Gate()
    reading = asyncio.create_task(read(SMALL, gate))
    await until(lambda: len(gate.begun) == 1)
    for _ in range(3):
        reading.cancel()
        await asyncio.sleep(0.005)
        assert not reading.done()
    gate.opened.set()
    await asyncio.wait({reading})
    assert reading.cancelled() and gate.ended == 1


async def test_what_has_not_begun_is_left() -> None:
    gate = Gate()
    first = asyncio.create_task(read(large(), gate, "first"))
    await until(lambda: len(gate.begun) == 1)
    second = asyncio.create_task(read(large(), gate, "second"))
    await asyncio.sleep(0.005)
    second.cancel()
    await asyncio.wait({second}, timeout=5)
    assert second.cancelled()
    gate.opened.set()
    assert await first == "first"
    assert gate.begun == ["first"]


async def test_a_failure_is_raised_unless_nobody_waits_any_more() -> None:
    def fail(_: object) -> None:
        raise InvalidRequest([])

    with pytest.raises(InvalidRequest):
        await read(SMALL, fail)


# Admission


async def test_nothing_is_read_before_there_is_a_place(monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server(max_pictures=1)
    read_names: list[str] = []

    def counted(picture: Any, *size: int) -> Any:
        read_names.append(picture.field)
        return np.zeros((128, 128, 3), np.uint8)

    monkeypatch.setattr(readers, "read_pixels", counted)
    server.stages.denoiser.hold(1)
    request = make_request(image=SMALL, strength=1.0)
    async with server.service.generation(request, Priority.INTERACTIVE):
        assert read_names == ["image_url"]
        with pytest.raises(Overloaded):
            async with server.service.generation(request, Priority.INTERACTIVE):
                pass
    assert read_names == ["image_url"]


async def test_a_client_that_leaves_keeps_its_place_until_its_picture_is_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server = Server(max_pictures=1, max_body_bytes=2000)
    gate = Gate()
    monkeypatch.setattr(readers, "read_pixels", lambda picture, *size: gate(picture))
    exchange = server.open("/", {"prompt": "p", "image_url": ORANGE_URL, "strength": 1.0})
    await until(lambda: len(gate.begun) == 1)
    exchange.leave()
    await asyncio.sleep(0.02)
    assert not exchange.task.done()
    with pytest.raises(Overloaded):
        async with server.service.generation(make_request(), Priority.INTERACTIVE):
            pass
    gate.opened.set()
    await exchange.ended()
    async with server.service.generation(make_request(), Priority.INTERACTIVE) as log:
        assert isinstance([event async for _, event in log.read()][-1], Final)


@pytest.mark.parametrize("path", ["/", "/stream"])
@pytest.mark.parametrize("field", ["image_url", "mask_url"])
async def test_a_picture_that_is_found_damaged_is_a_422_before_the_first_byte(
    path: str, field: str
) -> None:
    server = Server(max_pictures=1, max_body_bytes=100_000)
    server.service.offer = dataclasses.replace(server.service.offer, max_input_bytes=50_000)
    url = "data:;base64," + base64.b64encode(damaged()).decode()
    fields = {"prompt": "p", "image_url": ORANGE_URL, field: url}
    for _ in range(2):  # its place is free again
        answer = await server.ask("POST", path, json=fields)
        assert answer.status_code == 422
        assert answer.json()["detail"][0]["loc"] == ["body", field]
    assert server.stages.text_encoder.texts == []


# Sessions


async def test_a_session_reads_a_picture_once() -> None:
    memory = SessionMemory("s")
    black = looked_at(encoded(Image.new("L", (8, 8)), "PNG"), "mask")

    async def pictures(**changes: Any) -> tuple[GenerationRequest, Any]:
        request = make_request(**({"image": SMALL, "mask": black, "strength": 1.0} | changes))
        return await read_pictures(request, memory, 8)

    first, one = await pictures()
    again, two = await pictures(seed=8)
    assert first.warnings[0].startswith("mask selects nothing")
    assert again.warnings == first.warnings  # the session tells them once
    assert two.pixels is one.pixels and two.cells is one.cells
    _, other_size = await pictures(width=64)
    assert other_size.pixels.shape == (128, 64, 3) and other_size.cells.shape == (16, 8)
    _, without = await pictures(mask=None)
    assert without.cells is None and len(memory.read) == 1
    _, none = await read_pictures(make_request(), memory, 8)
    assert none is None and memory.read == {}


async def test_a_picture_that_is_its_own_mask_is_decoded_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    image = Image.new("RGBA", (64, 64), (255, 0, 0, 255))
    image.paste((0, 0, 255, 0), (0, 0, 32, 64))
    data = encoded(image, "PNG")
    decoded: list[str] = []

    def counted(picture: InputPicture, size: tuple[int, int]) -> reading.Decoded:
        decoded.append(picture.field)
        return reading.decode(picture, size)

    monkeypatch.setattr(masks, "decode", counted)
    request = make_request(
        image=looked_at(data, "image"),
        mask=looked_at(data, "mask"),
        mask_of="transparent",
        width=64,
        height=64,
    )
    request, pictures = await read_pictures(request, SessionMemory(None), 8)
    assert decoded == ["image"] and request.warnings == ()
    assert pictures is not None and pictures.cells is not None
    assert np.array_equal(pictures.cells, np.tile(np.repeat([True, False], 4), (8, 1)))
    assert (pictures.pixels[:, :32] == 255).all()
    assert (pictures.pixels[:, 32:] == (255, 0, 0)).all()


HDR = with_chunks(ORANGE, chunk(b"cICP", bytes([9, 16, 0, 1])))
ANIMATIONS = [data for name, data in READABLE.items() if name.startswith("animated")]
ONE_FRAME = with_chunks(ORANGE, chunk(b"acTL", struct.pack(">II", 1, 0)))


@pytest.mark.parametrize(
    ("data", "words"),
    [(HDR, "has HDR colours"), *((each, "is an animation") for each in ANIMATIONS)],
)
async def test_what_is_read_as_less_than_it_is_has_a_warning(data: bytes, words: str) -> None:
    request = make_request(image=looked_at(data), strength=1.0)
    request, _ = await read_pictures(request, SessionMemory(None), 8)
    [warning] = request.warnings
    assert warning.startswith(f"image_url {words}")


@pytest.mark.parametrize("data", [ORANGE, ONE_FRAME, READABLE["AVIF"], READABLE["HEIC"]])
async def test_a_picture_that_is_read_as_it_is_has_none(data: bytes) -> None:
    request = make_request(image=looked_at(data), strength=1.0)
    request, _ = await read_pictures(request, SessionMemory(None), 8)
    assert not request.warnings


async def test_a_damaged_picture_in_a_session_is_told_of_by_the_name_it_was_sent_by() -> None:
    server = Server()
    async with Socket(server.app, "/realtime") as socket:
        socket.send({"prompt": "p", "image": b"GIF89a", "request_id": "r1"})
        told = await socket.receive()
        assert (told["error"], told["request_id"]) == ("INVALID_REQUEST", "r1")
        assert told["reason"].startswith("image: is a GIF")
        socket.send({"prompt": "p", "image": ORANGE, "strength": 1.0})
        assert (await socket.receive())["type"] == "final"
