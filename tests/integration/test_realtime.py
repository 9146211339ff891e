"""Realtime sessions over the real service: many at once, pictures in, bad messages."""

import asyncio
from contextlib import suppress
from typing import Any

import msgpack
import numpy as np
import pytest
from numpy.typing import NDArray
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from tests.integration.application import Application, eventually
from tests.integration.sessions import PROMPT, answer, ask, pixels, realtime

SESSIONS = 64
ROUNDS = 14


async def test_many_sessions_at_once_each_get_their_own_pictures(application: Application) -> None:
    async def picture(connection: ClientConnection, seed: int) -> NDArray[Any]:
        result = await ask(connection, prompt=PROMPT, seed=seed, output_format="png")
        assert result["seed"] == seed
        return pixels(result)

    async def session(seed: int) -> NDArray[Any]:
        async with realtime(application) as connection:
            return await picture(connection, seed)

    async with realtime(application) as connection:
        alone = [await picture(connection, seed) for seed in range(SESSIONS)]
    together = await asyncio.gather(*(session(seed) for seed in range(SESSIONS)))
    for mine, again in zip(alone, together, strict=True):
        assert np.abs(mine - again).max() <= 2  # a batch of another size rounds otherwise
    for seed, mine in enumerate(together):  # and nobody has anybody else's
        for other in together[:seed]:
            assert np.abs(mine - other).mean() > 2


async def test_sessions_that_ask_all_the_time_get_the_same_share(application: Application) -> None:
    async def session(seed: int) -> None:
        async with realtime(application) as connection:
            assert (await ask(connection, **small, seed=seed))["type"] == "final"
            await everybody.wait()
            while max(counts) < ROUNDS:
                assert (await ask(connection))["seed"] == seed
                counts[seed] += max(counts) < ROUNDS  # until the first has so many

    small = {"prompt": PROMPT, "width": 64, "height": 64, "num_inference_steps": 2}
    counts = [0] * SESSIONS
    everybody = asyncio.Barrier(SESSIONS)
    async with asyncio.TaskGroup() as sessions:
        for seed in range(SESSIONS):
            sessions.create_task(session(seed))
    print(f"{sum(counts)} pictures, {min(counts)} to {max(counts)} a session")
    assert max(counts) / min(counts) < 1.3


async def test_an_input_picture_is_read_by_the_tiny_vae_or_by_the_full_one(
    application: Application,
) -> None:
    """Also where a session changes its mind, and keeps its picture: each is as in a session that
    never asked for the other."""

    async def drawn(connection: ClientConnection, **changes: Any) -> NDArray[Any]:
        return pixels(await ask(connection, **fields, **changes))

    async with realtime(application) as connection:
        first = await ask(connection, prompt=PROMPT, seed=1, output_format="png")
        picture = first["image"]["content"]
        fields = {
            **{"prompt": PROMPT, "seed": 1, "image": picture},
            **{"strength": 0.5, "output_format": "png"},
        }
        tiny = await drawn(connection)
        full = await drawn(connection, full_quality=True)
        tiny_again = await drawn(connection, full_quality=False)
    async with realtime(application) as connection:
        fresh_full = await drawn(connection, full_quality=True)
        fresh_tiny = await drawn(connection, full_quality=False)
    original = pixels(first)
    assert np.abs(tiny - full).mean() < 15  # the same picture, one sharper than the other
    assert np.abs(tiny - original).mean() < 40
    assert np.abs(full - fresh_full).max() <= 1
    assert np.abs(tiny - fresh_tiny).max() <= 1
    assert np.abs(tiny - tiny_again).max() <= 1
    assert np.abs(tiny - full).max() > 20


@pytest.mark.parametrize("messages_before", [0, 1])  # the next ones go another way to the denoiser
async def test_who_leaves_stops_the_work(application: Application, messages_before: int) -> None:
    async with realtime(application) as connection:
        for _ in range(messages_before):
            await ask(connection, prompt=PROMPT)
        before = application.steps_run()
        await connection.send(msgpack.packb({"prompt": PROMPT, "num_inference_steps": 100}))
        await asyncio.to_thread(eventually, lambda: application.steps_run() > before)
    counts = [-1, application.steps_run()]
    while counts[-1] != counts[-2]:
        await asyncio.sleep(0.5)
        counts.append(application.steps_run())
    assert counts[-1] - before < 100


@pytest.mark.parametrize(
    ("frame", "error"),
    [
        (b"\x91" * 100_000, "INVALID_MESSAGE"),
        ("text", "INVALID_MESSAGE"),
        (b"\xdf\xff\xff\xff\xff", "INVALID_MESSAGE"),
        (msgpack.packb({"prompt": "p", "guidance_scale": float("nan")}), "INVALID_REQUEST"),
        (msgpack.packb({"prompt": "p", "image": b"\xff\xd8\xff truncated"}), "INVALID_REQUEST"),
    ],
)
async def test_a_bad_message_has_a_named_error_and_the_session_goes_on(
    application: Application, frame: bytes | str, error: str
) -> None:
    async with realtime(application) as connection:
        await connection.send(frame)
        assert (await answer(connection))["error"] == error
        assert (await ask(connection, prompt=PROMPT, image=None))["type"] == "final"


async def test_a_frame_over_the_proxys_limit_ends_only_its_session(
    application: Application,
) -> None:
    async with realtime(application) as bystander:
        async with realtime(application) as connection:
            with suppress(ConnectionClosed):  # while it is still sending, perhaps
                await connection.send(b"\x00" * 17 * 2**20)
            with pytest.raises(ConnectionClosed):
                await answer(connection)
        assert (await ask(bystander, prompt=PROMPT))["type"] == "final"
