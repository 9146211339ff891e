"""What clients that mean no good send to the doors of the real service: nobody else notices,
nothing is restarted, and memory stays what it was."""

import asyncio
import json
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress

import msgpack
import numpy as np
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.frames import Frame, Opcode

from tests.integration.application import Application
from tests.integration.sessions import ask, bystander, decoded, pixels, realtime
from tests.mutations import LAST, PROMPT, Mutations
from tests.strange_pictures import READABLE, REFUSED

SESSIONS = 8
MESSAGES = 500  # of each
PACE_S = 0.009  # a session may send 120 in a second
INGRESS = "ServeReplica:glimpse:Ingress"
GROWTH = 64 * 2**20  # bytes that an allocator may keep of what went through


@pytest.fixture(autouse=True)
def nothing_is_restarted(application: Application) -> Iterator[None]:
    before = {process.pid for process in application.actors("Serve")}
    yield
    assert {process.pid for process in application.actors("Serve")} == before


@pytest.mark.parametrize("path", ["/realtime", "/ws"])
async def test_thousands_of_damaged_messages(
    application: Application, path: str, record_property: Callable[[str, object], None]
) -> None:
    text = path == "/ws"
    url = f"{application.url.replace('http', 'ws', 1)}{path}?max_buffering=1"
    last = json.dumps(LAST | {"output_format": "png"})
    told: Counter[str] = Counter()
    pictures = []

    async def vandal(seed: int) -> None:
        mutations = Mutations(seed, text=text)
        async with connect(url, max_size=None) as connection:
            sending = asyncio.create_task(send(connection, mutations))
            async for frame in connection:
                answer = decoded(frame)
                assert answer["type"] in ("preview", "final", "x-fal-error"), answer
                told[answer.get("error", answer["type"])] += 1
                if answer["type"] == "final" and answer["request_id"] == "last":
                    pictures.append(answer)
                    break
            await sending
        assert connection.close_code == 1000

    async def send(connection: ClientConnection, mutations: Mutations) -> None:
        for _ in range(MESSAGES):
            await connection.send(mutations.frame())
            await asyncio.sleep(PACE_S)
        await connection.send(last if text else msgpack.packb(json.loads(last)))

    async with connect(url, max_size=None) as connection:
        await connection.send(last if text else msgpack.packb(json.loads(last)))
        expected = pixels(decoded(await connection.recv()))
    before = application.memory(INGRESS)
    async with bystander(application):
        await asyncio.gather(*(vandal(seed) for seed in range(SESSIONS)))
    grown = application.memory(INGRESS) - before
    record_property("ingress_grew_by_bytes", grown)
    print(f"{path}: {SESSIONS * MESSAGES} messages, {dict(told)}, ingress +{grown / 2**20:.1f} MiB")
    assert grown < GROWTH
    assert min(told["INVALID_MESSAGE"], told["INVALID_REQUEST"]) > 50, told
    assert set(told) <= {"INVALID_MESSAGE", "INVALID_REQUEST", "RATE_LIMITED", "preview", "final"}
    assert told["final"] > SESSIONS, told  # damage that leaves a message whole; most are overtaken
    for picture in pictures:
        assert np.abs(pixels(picture) - expected).max() <= 2
    assert len(pictures) == SESSIONS


async def test_pictures_of_every_kind(application: Application) -> None:
    async with bystander(application), realtime(application) as connection:
        for kind, picture in READABLE.items():
            for full_quality in (False, True):
                fields = {"prompt": PROMPT, "image": picture, "full_quality": full_quality}
                assert (await ask(connection, **fields))["type"] == "final", kind
        for kind, picture in REFUSED.items():
            for name in ("image", "mask"):
                given = {"image": READABLE["CMYK"], "mask": None, name: picture}
                refused = await ask(connection, **given, request_id=name)
                assert refused.get("error") == "INVALID_REQUEST", (kind, refused)
                assert refused["request_id"] == name
        assert (await ask(connection, image=None))["type"] == "final"


async def test_prompts_of_every_kind(application: Application) -> None:
    async with bystander(application), realtime(application) as connection:
        for prompt in ("\U0001f3a8" * 2_000, "\0", "\u202e\ufffd", " " * 2_000, "a," * 1_000):
            assert (await ask(connection, prompt=prompt))["type"] == "final"
        assert (await ask(connection, prompt=None))["error"] == "INVALID_REQUEST"
        assert (await ask(connection, prompt="\U0001f3a8" * 2_001))["error"] == "INVALID_REQUEST"


async def test_every_message_another_size_and_number(application: Application) -> None:
    async with bystander(application), realtime(application) as connection:
        for side, number in ((64, 4), (256, 1), (32, 2), (128, 4), (64, 1)):
            fields = {"width": side, "height": 96, "num_images": number, "preview_every": 1}
            await connection.send(
                msgpack.packb({"prompt": PROMPT, "stream_previews": True} | fields)
            )
            while (result := decoded(await connection.recv()))["type"] == "preview":
                pass
            assert [image["width"] for image in result["images"]] == [side] * number


UPGRADE = (
    b"GET /realtime HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n"
    b"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)


def raw(first: int, payload: bytes) -> bytes:
    """A frame of RFC 6455, section 5.2, masked with zeros: its first byte, and what is in it."""
    return bytes([first, 0x80 | len(payload)]) + bytes(4) + payload


FRAMES = {
    "text that is no UTF-8": (raw(0x81, b'{"prompt": "\xff"}'), 1007),
    "text in pieces that is none": (
        raw(0x01, b'{"prompt": "\xf0\x9f') + raw(0x80, b'"}'),
        1007,
    ),
    "a surrogate in UTF-8": (raw(0x81, b'"\xed\xa0\x80"'), 1007),
    "a continuation of nothing": (raw(0x80, b"{}"), 1002),
    "compressed": (raw(0xC1, b"{}"), 1002),
    "no kind of frame": (raw(0x83, b"{}"), 1002),
}


@pytest.mark.parametrize("what", FRAMES)
async def test_frames_that_break_the_protocol_end_their_session(
    application: Application, what: str
) -> None:
    frames, code = FRAMES[what]
    url = f"{application.url.replace('http', 'ws', 1)}/ws"
    async with bystander(application):
        async with connect(url) as connection:  # which offers compression
            assert connection.protocol.extensions == []
            connection.transport.write(frames)
            with pytest.raises(ConnectionClosed):
                await connection.recv()
            assert connection.close_code == code


async def test_frames_of_more_than_the_proxy_takes(application: Application) -> None:
    async with bystander(application):
        for _ in range(10):
            async with realtime(application) as connection:
                with pytest.raises(ConnectionClosed):
                    await connection.send(bytes(17 * 2**20))
                    await connection.recv()
                assert connection.close_code == 1009


async def test_sockets_closed_in_mid_answer_and_in_the_handshake(application: Application) -> None:
    """Without a word, in three places."""
    host, port = application.url.removeprefix("http://").split(":")
    before = application.memory(INGRESS)
    async with bystander(application):
        for _ in range(40):
            for sent in (UPGRADE[:60], UPGRADE):
                _, writer = await asyncio.open_connection(host, int(port))
                writer.write(sent)
                writer.transport.abort()
        for _ in range(40):
            async with realtime(application) as connection:
                fields = {"prompt": PROMPT, "num_inference_steps": 50, "preview_every": 1}
                await connection.send(msgpack.packb(fields | {"stream_previews": True}))
                await connection.recv()
                connection.transport.abort()
    assert application.memory(INGRESS) - before < GROWTH


CONTROL_FRAMES = {"pings": Frame(Opcode.PING, bytes(125)), "pongs": Frame(Opcode.PONG, b"")}


@pytest.mark.parametrize("what", CONTROL_FRAMES)
async def test_floods_of_control_frames_end_no_session(application: Application, what: str) -> None:
    frames = CONTROL_FRAMES[what].serialize(mask=True) * 50_000
    async with bystander(application), realtime(application) as connection:
        connection.transport.write(frames)
        assert (await ask(connection, prompt=PROMPT))["type"] == "final"


@pytest.mark.parametrize("content", [b"", b"a"], ids=["empty", "small"])
async def test_a_message_of_endless_pieces_ends_its_session(
    application: Application, content: bytes
) -> None:
    async with bystander(application), realtime(application) as connection:
        connection.transport.write(Frame(Opcode.BINARY, content, fin=False).serialize(mask=True))
        piece = Frame(Opcode.CONT, content, fin=False).serialize(mask=True)
        connection.transport.write(piece * 200_000)
        with pytest.raises(ConnectionClosed):
            await connection.recv()
        assert connection.close_code == 1009


@pytest.mark.parametrize("begin", [b"GET /", b"GET / HTTP/1.1\r\nX-A: "], ids=["path", "header"])
async def test_a_request_whose_head_never_ends_is_refused(
    application: Application, begin: bytes
) -> None:
    host, port = application.url.removeprefix("http://").split(":")
    async with bystander(application), asyncio.timeout(60):
        _, writer = await asyncio.open_connection(host, int(port))
        writer.write(begin)
        with suppress(ConnectionError):
            while True:  # until it is closed
                writer.write(b"a" * 2**16)
                await writer.drain()
                await asyncio.sleep(0)
        writer.close()


async def test_idle_sessions_take_no_more_places_than_there_are(application: Application) -> None:
    async with asyncio.TaskGroup() as group:
        opening = [group.create_task(_opened(application)) for _ in range(100)]
    opened = [task.result() for task in opening]
    refusals = {asyncio.create_task(_refusal(each)): each for each in opened}
    try:
        for _ in range(36):  # they wait for a place, in vain
            [refused, *_], _ = await asyncio.wait(refusals, return_when=asyncio.FIRST_COMPLETED)
            del refusals[refused]
            assert refused.result() == "OVERLOADED"
        for connection in refusals.values():
            await connection.send(b"\xc1")
        assert await asyncio.gather(*refusals) == ["INVALID_MESSAGE"] * 64
    finally:
        await asyncio.gather(*(connection.close() for connection in opened))
    async with realtime(application) as connection:
        assert (await ask(connection, prompt=PROMPT))["type"] == "final"


async def _opened(application: Application) -> ClientConnection:
    return await realtime(application)


async def _refusal(connection: ClientConnection) -> str:
    return str(decoded(await connection.recv())["error"])
