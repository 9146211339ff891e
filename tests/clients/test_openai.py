"""OpenAI's own Python client, unmodified, pointed here by its `base_url`."""

import base64
import contextlib
import io
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import numpy as np
import openai
import pytest
from numpy.typing import NDArray
from PIL import Image

from config.settings import IngressSettings
from tests.integration.application import Application
from tests.integration.test_leaving import wait_until_quiet

PROMPT = "a red lighthouse by the sea at sunset"
LONG_STEPS = 80  # quality="max": four times the built-in model's


@pytest.fixture
def client(application: Application) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(
        base_url=f"{application.url}/v1", api_key="any", max_retries=0, timeout=60
    ) as client:
        yield client


@pytest.fixture
async def async_client(application: Application) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(
        base_url=f"{application.url}/v1", api_key="any", max_retries=0, timeout=60
    ) as client:
        yield client


def picture(item: Any) -> Image.Image:
    """What is in an event of a stream, or in a part of an answer."""
    image = Image.open(io.BytesIO(base64.b64decode(item.b64_json)))
    image.load()
    return image


def pixels(image: Image.Image) -> NDArray[np.float64]:
    return np.asarray(image.convert("RGB"), np.float64)


def png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def check_stream(events: list[Any], operation: str, partial_images: int) -> None:
    """Partial pictures, the last of which is nearest to the one that follows: before it chance may
    have its way, as nobody can ask OpenAI for a seed."""
    *partial, completed = events
    assert [event.type for event in partial] == [f"{operation}.partial_image"] * partial_images
    assert [event.partial_image_index for event in partial] == list(range(partial_images))
    assert completed.type == f"{operation}.completed"
    assert completed.usage.total_tokens == 0
    for event in events:
        assert (picture(event).format, event.output_format) == ("PNG", "png")
        assert "{}x{}".format(*picture(event).size) == event.size
    final = pixels(picture(completed))
    away = [np.abs(pixels(picture(event)) - final).mean() for event in partial]
    assert not away or away[-1] == min(away)
    assert away[-1] > 0


def test_generate(client: openai.OpenAI) -> None:
    answer = client.images.generate(
        model="gpt-image-1.5",
        prompt=PROMPT,
        n=2,
        size="1536x1024",
        quality="low",
        output_format="jpeg",
        output_compression=80,
    )
    assert answer.data is not None
    one, other = (picture(item) for item in answer.data)
    assert one.size == other.size == (160, 104)
    assert (answer.size, answer.quality, answer.output_format) == ("160x104", "low", "jpeg")
    assert one.format == "JPEG"
    assert np.abs(pixels(one) - pixels(other)).max() > 50


def test_output_compression_is_quality(client: openai.OpenAI) -> None:
    def size(compression: int) -> int:
        answer = client.images.generate(
            prompt=PROMPT, quality="low", output_format="webp", output_compression=compression
        )
        assert answer.data is not None
        return len(answer.data[0].b64_json or "")

    assert size(1) * 3 < size(100)  # of different pictures, but of one size


def test_a_stream_shows_the_picture_while_it_is_being_made(
    client: openai.OpenAI, application: Application
) -> None:
    before = wait_until_quiet(application)
    with client.images.generate(
        prompt=PROMPT, quality="max", stream=True, partial_images=3
    ) as stream:
        first = next(iter(stream))
        assert application.steps_run() - before < LONG_STEPS
        check_stream([first, *stream], "image_generation", 3)
    assert application.steps_run() - before == LONG_STEPS


@pytest.mark.parametrize("partial_images", [0, 1, 2])
def test_there_are_as_many_partial_images_as_wanted(
    client: openai.OpenAI, partial_images: int
) -> None:
    with client.images.generate(
        prompt=PROMPT, stream=True, partial_images=partial_images
    ) as stream:
        events = list(stream)
    assert [event.type for event in events] == [
        *["image_generation.partial_image"] * partial_images,
        "image_generation.completed",
    ]


def test_an_edit_starts_from_the_picture(client: openai.OpenAI) -> None:
    orange = Image.new("RGB", (300, 200), (250, 120, 30))
    answer = client.images.edit(image=png(orange), prompt=PROMPT)
    assert answer.data is not None
    assert answer.size == "160x104"
    red, _, blue = pixels(picture(answer.data[0])).mean((0, 1))
    assert red > blue + 40


def test_an_edit_with_a_mask_leaves_the_rest_alone(client: openai.OpenAI) -> None:
    made = client.images.generate(prompt="a windmill on green hills under a clear sky")
    assert made.data is not None
    original = picture(made.data[0])
    mask = Image.new("RGBA", original.size, (0, 0, 0, 255))
    mask.paste((0, 0, 0, 0), (0, 0, 64, 128))  # transparent to the left
    with client.images.edit(
        image=("windmill.png", png(original), "image/png"),
        mask=("mask.png", png(mask), "image/png"),
        prompt="a snowy city at night",
        stream=True,
        partial_images=3,
    ) as stream:
        events = list(stream)
    check_stream(events, "image_edit", 3)
    away = np.abs(pixels(picture(events[-1])) - pixels(original)).mean((0, 2))
    assert away[:56].mean() > 3 * away[72:].mean()
    assert away[72:].mean() < 15  # it went through the autoencoder


def test_models(client: openai.OpenAI) -> None:
    [model] = client.models.list()
    assert (model.id, model.owned_by) == ("glimpse/miniature", "glimpse")
    answer = client.images.generate(model=model.id, prompt=PROMPT, quality="low")
    assert answer.data is not None and picture(answer.data[0]).size == (128, 128)


def test_a_model_by_its_name(client: openai.OpenAI) -> None:
    assert client.models.retrieve("glimpse/miniature").id == "glimpse/miniature"
    with pytest.raises(openai.NotFoundError) as missing:
        client.models.retrieve("glimpse/none")
    assert missing.value.code == "model_not_found"


def test_the_fields_of_other_routes_go_into_the_extra_body(client: openai.OpenAI) -> None:
    native = {"seed": 7, "num_inference_steps": 4.0, "image_size": {"width": 64, "height": 96}}
    answers = [
        client.images.generate(prompt=PROMPT, extra_body=native | {"enable_safety_checker": True})
        for _ in range(2)
    ]
    one, again = (picture((answer.data or [])[0]) for answer in answers)
    assert one.size == (64, 96)
    assert np.array_equal(pixels(one), pixels(again))
    edits = [
        client.images.edit(prompt=PROMPT, image=png(one), extra_body=native | {"strength": 0.5})
        for _ in range(2)
    ]
    edited, again = (picture((answer.data or [])[0]) for answer in edits)
    assert edited.size == (64, 96)
    assert np.array_equal(pixels(edited), pixels(again))
    assert (answers[0].model_extra or {})["warnings"] == [
        "enable_safety_checker has no effect: no picture is checked."
    ]


def test_pictures_of_dall_e_have_addresses_and_a_long_prompt_is_told(
    client: openai.OpenAI,
) -> None:
    answer = client.images.generate(model="dall-e-3", prompt="a windmill on a hill " * 30)
    [item] = answer.data or []
    assert item.b64_json is None
    head, data = (item.url or "").split(",")
    assert head == "data:image/png;base64"
    assert Image.open(io.BytesIO(base64.b64decode(data))).size == (128, 128)
    warned = [each.split()[0] for each in (answer.model_extra or {})["warnings"]]
    assert warned == ["model", "prompt"]


def test_errors(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as bad:
        client.images.generate(prompt=PROMPT, n=9, stream=True)
    assert (bad.value.param, bad.value.type) == ("n", "invalid_request_error")
    with pytest.raises(openai.BadRequestError, match="mask: has no alpha channel"):
        plain = png(Image.new("RGB", (8, 8)))
        client.images.edit(prompt=PROMPT, image=plain, mask=plain)
    with pytest.raises(openai.NotFoundError) as missing:
        client.images.generate(prompt=PROMPT, model="gpt-4o")
    assert missing.value.code == "model_not_found"
    with pytest.warns(DeprecationWarning), pytest.raises(openai.NotFoundError):
        client.images.create_variation(image=plain)


def test_when_every_place_is_taken_it_is_a_rate_limit(
    client: openai.OpenAI, application: Application
) -> None:
    # They must take longer than the client waits for a place.
    size = {"width": 256, "height": 256}
    fields = {"prompt": PROMPT, "num_images": 4, "num_inference_steps": 100, "image_size": size}
    with contextlib.ExitStack() as streams:
        for _ in range(IngressSettings().max_pictures // 4):
            url = f"{application.url}/stream"
            stream = streams.enter_context(httpx.stream("POST", url, json=fields, timeout=60))
            assert stream.status_code == 200
        with pytest.raises(openai.RateLimitError) as refused:
            client.images.generate(prompt=PROMPT)
    assert refused.value.code == "overloaded"
    assert refused.value.response.headers["retry-after"] == "1"
    wait_until_quiet(application)
    client.images.generate(prompt=PROMPT, quality="low")


def test_a_client_that_leaves_stops_its_work(
    client: openai.OpenAI, application: Application
) -> None:
    before = wait_until_quiet(application)
    with client.images.generate(
        prompt=PROMPT, quality="max", stream=True, partial_images=3
    ) as stream:
        assert next(iter(stream)).type == "image_generation.partial_image"
    assert 20 <= wait_until_quiet(application) - before < LONG_STEPS


def test_a_process_that_dies_in_mid_picture_is_not_noticed(
    client: openai.OpenAI, application: Application
) -> None:
    with client.images.generate(
        prompt=PROMPT, quality="max", stream=True, partial_images=3
    ) as stream:
        events = iter(stream)
        assert next(events).type == "image_generation.partial_image"
        application.kill("Denoiser")
        assert [event.type for event in events][-1] == "image_generation.completed"


async def test_async(async_client: openai.AsyncOpenAI) -> None:
    answer = await async_client.images.generate(prompt=PROMPT, quality="low")
    assert answer.data is not None
    original = picture(answer.data[0])
    stream = await async_client.images.edit(
        image=[png(original)], prompt=PROMPT, stream=True, partial_images=2
    )
    check_stream([event async for event in stream], "image_edit", 2)
    generated = await async_client.images.generate(prompt=PROMPT, stream=True, partial_images=2)
    check_stream([event async for event in generated], "image_generation", 2)
    assert [model.id async for model in async_client.models.list()] == ["glimpse/miniature"]
    with pytest.raises(openai.BadRequestError):
        await async_client.images.generate(prompt="")
