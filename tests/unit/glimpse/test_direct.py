"""`glimpse.direct`: stages over models that are there, in this process."""

import asyncio
import dataclasses
import io
from contextlib import aclosing
from typing import Any

import numpy as np
import pytest
from PIL import Image

from glimpse.batches import Batches
from glimpse.decoders import FullVAE, TinyVAE
from glimpse.direct import Denoising, ImageCoding, PreviewDecoding, TextEncoding
from glimpse.engine.loop import Engine
from glimpse.errors import StageFailed, StageStalled
from glimpse.families.conditioning import Conditioning, TextEmbedding
from glimpse.families.sdxl import SDXLNetwork, SDXLTextEncoder
from glimpse.ports import DenoiseOptions, Picture, Priority, StepEvent
from glimpse.request import PreviewSpec
from glimpse.torch_thread import TorchThread
from tests.unit.glimpse.engine.oracle import make_job
from tests.unit.glimpse.hold import held

LATENTS = np.random.default_rng(1).standard_normal((4, 4, 4, 8), np.float32)
SPEC = PreviewSpec(1, "webp", 80, 32)


def picture(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data))


class Counted:
    """A decoder that tells how many pictures each of its calls had."""

    def __init__(self, vae: Any) -> None:
        self.vae = vae
        self.calls: list[int] = []

    def decode(self, latents: list[Any]) -> list[Image.Image]:
        self.calls.append(len(latents))
        images: list[Image.Image] = self.vae.decode(latents)
        return images


async def test_previews_that_wait_are_decoded_in_one_call_and_encoded_as_wanted(
    torch_thread: TorchThread, tiny_vae: TinyVAE
) -> None:
    vae: Any = Counted(tiny_vae)
    stage = PreviewDecoding(torch_thread, vae, max_batch_pixels=3 * 64 * 32)
    async with held(torch_thread):
        asked = [asyncio.create_task(stage.decode("r", each, SPEC)) for each in LATENTS]
    previews = await asyncio.gather(*asked)
    assert vae.calls == [3, 1]
    for preview, alone in zip(previews, LATENTS, strict=True):
        assert (preview.content_type, preview.width, preview.height) == ("image/webp", 32, 16)
        assert preview == await stage.decode("r", alone, SPEC)
    assert len({preview.data for preview in previews}) == len(LATENTS)


async def test_sizes_are_decoded_apart_and_a_large_one_all_the_same(
    torch_thread: TorchThread, tiny_vae: TinyVAE
) -> None:
    vae: Any = Counted(tiny_vae)
    stage = PreviewDecoding(torch_thread, vae, max_batch_pixels=1)
    async with held(torch_thread):
        asked = [
            asyncio.create_task(stage.decode("r", each, PreviewSpec(1, "jpeg", 80, 512)))
            for each in (LATENTS[0], LATENTS[1], LATENTS[2].transpose(0, 2, 1))
        ]
    sizes = [(each.width, each.height) for each in await asyncio.gather(*asked)]
    assert sizes == [(64, 32), (64, 32), (32, 64)]
    assert vae.calls == [1, 1, 1]


async def test_a_final_picture_is_encoded_as_wanted(
    torch_thread: TorchThread, full_vae: FullVAE
) -> None:
    stage = ImageCoding(torch_thread, full_vae, max_batch_pixels=1)
    made = await stage.decode("r", LATENTS[0], "png", 95)
    [expected] = await torch_thread.run(full_vae.decode, LATENTS[:1])
    assert (made.content_type, made.width, made.height) == ("image/png", 64, 32)
    assert np.array_equal(np.asarray(picture(made.data)), np.asarray(expected))


async def test_an_input_picture_is_encoded_as_it_was_read(
    torch_thread: TorchThread, full_vae: FullVAE
) -> None:
    stage = ImageCoding(torch_thread, full_vae, max_batch_pixels=1)
    noise = np.random.default_rng(2).integers(0, 256, (32, 64, 3), np.uint8)
    image = await stage.encode("r", noise, None)
    assert image.mean.shape == image.std.shape == (4, 4, 8)
    assert image.mean.dtype == image.std.dtype == np.float32
    assert image.std.min() > 0
    assert image.scale == 0.13025
    assert image.mask is None
    cells = np.eye(4, 8) > 0
    masked = (await stage.encode("r", noise, cells)).mask
    assert masked is not None and np.array_equal(masked, cells[np.newaxis])


async def test_a_stage_fails_by_its_name(
    torch_thread: TorchThread, tiny_vae: TinyVAE, full_vae: FullVAE
) -> None:
    previews = PreviewDecoding(torch_thread, tiny_vae, max_batch_pixels=1)
    images = ImageCoding(torch_thread, full_vae, max_batch_pixels=1)
    of_another_model = LATENTS[0][:3]
    for failing, stage in (
        (previews.decode("r", of_another_model, SPEC), "preview_decode"),
        (images.decode("r", of_another_model, "png", 95), "image_decode"),
    ):
        with pytest.raises(StageFailed) as caught:
            await failing
        assert caught.value.stage == stage


async def test_texts_that_wait_share_a_call_and_are_encoded_once(
    torch_thread: TorchThread, text_encoder: SDXLTextEncoder
) -> None:
    embeds: Batches[str, TextEmbedding] = Batches(
        torch_thread, text_encoder.encode, most=lambda text: 16
    )
    stage = TextEncoding(text_encoder, embeds.run, cache_size=4)
    before = await stage.ping()
    async with held(torch_thread):
        asked = [
            asyncio.create_task(stage.encode("r", prompt, negative))
            for prompt, negative in (("a", "b"), ("c", None))
        ]
    first, second = [(await each).conditioning for each in asked]
    after = await stage.ping()
    assert (after["texts"] - before["texts"], after["calls"] - before["calls"]) == (3, 1)
    assert first.negative is not None and second.negative is None
    again = (await stage.encode("r", "b", "c")).conditioning
    assert await stage.ping() == after
    assert again.prompt is first.negative and again.negative is second.prompt
    for text in "defg":
        await stage.encode("r", text, None)
    await stage.encode("r", "b", None)  # four newer ones have come since
    assert (await stage.ping())["texts"] == after["texts"] + 5


async def test_of_a_long_text_the_tokens_that_are_not_read_are_counted(
    torch_thread: TorchThread, text_encoder: SDXLTextEncoder
) -> None:
    embeds: Batches[str, TextEmbedding] = Batches(
        torch_thread, text_encoder.encode, most=lambda text: 16
    )
    stage = TextEncoding(text_encoder, embeds.run, cache_size=4)
    short, long = "w " * 75, "w " * 78
    for _ in range(2):  # from the cache, too
        encoded = await stage.encode("r", short, long)
        assert (encoded.prompt_cut, encoded.negative_prompt_cut) == (0, 3)
        encoded = await stage.encode("r", long, None)
        assert (encoded.prompt_cut, encoded.negative_prompt_cut) == (3, 0)


async def test_a_denoiser_makes_the_picture_itself_where_it_is_asked_to(
    torch_thread: TorchThread,
    network: SDXLNetwork,
    text_encoder: SDXLTextEncoder,
    tiny_vae: TinyVAE,
) -> None:
    [text] = await torch_thread.run(text_encoder.encode, ["a house"])
    decoder = PreviewDecoding(torch_thread, tiny_vae, max_batch_pixels=1)
    stage = Denoising(Engine(network, torch_thread, row_budget=2), decoder)
    plain = DenoiseOptions(priority=Priority.REALTIME, deadline_s=None)

    async def last(options: DenoiseOptions) -> StepEvent:
        [event] = [
            event
            async for event in stage.denoise(make_job(), Conditioning(text, None), None, options)
        ]
        return event

    with_latents = await last(plain)
    with_picture = await last(dataclasses.replace(plain, picture=SPEC))
    assert with_picture.latents is None and with_latents.latents is not None
    assert with_picture.picture == await decoder.decode("r", with_latents.latents, SPEC)
    assert with_picture.picture is not None and with_picture.picture.decode_s > 0


async def test_a_denoiser_whose_decoder_hangs_has_stalled_itself(
    torch_thread: TorchThread, network: SDXLNetwork
) -> None:
    """Both are on one thread: whoever hears of it has to know which replica to leave."""

    class Hangs:
        async def decode(self, *_: Any) -> Picture:
            raise StageStalled("preview_decode")

    decoder: Any = Hangs()
    stage = Denoising(Engine(network, torch_thread, row_budget=2), decoder)
    options = DenoiseOptions(priority=Priority.REALTIME, deadline_s=None, picture=SPEC)
    text = TextEmbedding(np.zeros((77, 32), np.float32), np.zeros(16, np.float32))
    with pytest.raises(StageStalled) as raised:
        async for _ in stage.denoise(make_job(), Conditioning(text, None), None, options):
            pass
    assert raised.value.stage == "denoise"


async def test_a_denoiser_that_is_closed_stops_before_its_next_step(
    torch_thread: TorchThread,
    network: SDXLNetwork,
    text_encoder: SDXLTextEncoder,
    tiny_vae: TinyVAE,
) -> None:
    [text] = await torch_thread.run(text_encoder.encode, ["a house"])
    decoder = PreviewDecoding(torch_thread, tiny_vae, max_batch_pixels=1)
    stage = Denoising(Engine(network, torch_thread, row_budget=2), decoder)
    encoder = TextEncoding(text_encoder, _given(text), cache_size=1)
    conditioning = (await encoder.encode("r", "a house", None)).conditioning
    options = DenoiseOptions(
        priority=Priority.INTERACTIVE, deadline_s=None, emit_at=frozenset(range(100))
    )
    job = dataclasses.replace(make_job(), num_inference_steps=100)
    async with aclosing(stage.denoise(job, conditioning, None, options)) as steps:
        assert (await anext(steps)).step == 1
    while (counters := await stage.ping())["running"]:
        await asyncio.sleep(0.001)
    assert 1 <= counters["steps_run"] < 100
    await torch_thread.run(int)
    assert (await stage.ping())["steps_run"] == counters["steps_run"]


def _given(text: TextEmbedding) -> Any:
    async def embed(_: str) -> TextEmbedding:
        return text

    return embed
