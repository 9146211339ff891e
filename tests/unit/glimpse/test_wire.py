"""What unmodified clients have sent, byte by byte (tests/wire), at the codec and at the doors."""

import pytest

from glimpse.input_pictures.reading import read_pixels
from glimpse.protocols.realtime import Msgpack, parse, with_pictures_looked_at
from tests.fakes import OFFER, looked_at
from tests.unit.glimpse.http.asgi import Exchange, Server
from tests.wire.sent import EDIT, FOLDER, INPUT, ORANGE, VALUES, WITH_PICTURE

FALS = ["fal_python", "fal_javascript"]


@pytest.mark.parametrize("client", FALS)
def test_values_of_every_kind_in_msgpack(client: str) -> None:
    message = Msgpack().decode((FOLDER / f"{client}-values.msgpack").read_bytes())
    assert message == VALUES
    request = parse(message, OFFER).request
    assert (request.prompt, request.negative_prompt, request.seed) == ("schön 🎈", None, 2**32 - 1)
    assert (request.guidance_scale, request.steps) == (4.5, 2)
    assert (request.width, request.height) == (64, 64)


@pytest.mark.parametrize("client", FALS)
def test_a_picture_in_msgpack(client: str) -> None:
    message = Msgpack().decode((FOLDER / f"{client}-picture.msgpack").read_bytes())
    assert message == WITH_PICTURE
    looked = with_pictures_looked_at(message, OFFER)
    assert parse(looked, OFFER).request.image == looked_at(ORANGE, "image")


async def sent(server: Server, name: str) -> Exchange:
    """A request as it was captured, and its whole answer."""
    head, _, body = (FOLDER / f"{name}.http").read_bytes().partition(b"\r\n\r\n")
    request, *lines = head.decode().split("\r\n")
    _, path, _ = request.split(" ")
    headers = dict(line.split(": ", 1) for line in lines)
    return await Exchange(server.app, path, body, headers=headers).ended()


@pytest.mark.parametrize("client", FALS)
@pytest.mark.parametrize("kind", ["run", "stream"])
async def test_fals_requests(client: str, kind: str) -> None:
    server = Server()
    exchange = await sent(server, f"{client}-{kind}")
    assert (exchange.status, exchange.complete) == (200, True)
    content = {"run": "application/json", "stream": "text/event-stream"}[kind]
    assert exchange.headers["content-type"].startswith(content)
    [job] = server.stages.denoiser.jobs
    assert (job.seed, job.num_inference_steps) == (INPUT["seed"], INPUT["num_inference_steps"])
    assert server.stages.text_encoder.texts == [(INPUT["prompt"], None)]


async def test_openais_form() -> None:
    server = Server(max_body_bytes=2000)
    exchange = await sent(server, "openai-edit")
    assert exchange.status == 200
    [picture] = server.stages.image_codec.encoded
    assert picture.shape == (128, 128, 3)
    assert (picture == read_pixels(looked_at(ORANGE), 8, 8)[0, 0]).all()
    assert server.stages.text_encoder.texts == [(EDIT["prompt"], None)]
    assert len(server.stages.denoiser.jobs) == EDIT["n"]
