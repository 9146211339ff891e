"""The design everybody copies, from fal's example of a streaming endpoint: the pipeline in a
thread, a step callback that decodes a preview, and a queue to the generator of server-sent events.
"""

import base64
import io
import json
import queue
import threading
from collections.abc import Callable, Iterator
from typing import Any

import torch
from diffusers import AutoencoderTiny, StableDiffusionXLPipeline
from PIL import Image

from benchmarks.task import Task, Wanted, preview_steps

PREVIEW_QUALITY, FINAL_QUALITY = 70, 95  # of JPEG, in fal's example and in the service


class PreviewingPipeline:
    """`StableDiffusionXLPipeline`, unchanged, and a TinyVAE for its step callback."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._pipeline = StableDiffusionXLPipeline.from_pretrained(task.model, dtype=torch.float32)
        self._pipeline.set_progress_bar_config(disable=True)
        self._tiny_vae = AutoencoderTiny.from_pretrained(task.tiny_vae).eval()

    def picture(self, wanted: Wanted, show: Callable[[int, Image.Image], None]) -> Image.Image:
        """Makes a picture; `show` takes each preview with its step, from 1."""
        shown = preview_steps(wanted.steps, wanted.preview_every)

        def on_step_end(_: Any, index: int, timestep: Any, tensors: dict[str, Any]) -> Any:
            if index + 1 in shown:
                show(index + 1, self._preview(tensors["latents"]))
            return tensors

        image: Image.Image = self._pipeline(
            wanted.prompt,
            num_inference_steps=wanted.steps,
            guidance_scale=self._task.guidance_scale,
            width=self._task.width,
            height=self._task.height,
            generator=torch.Generator("cpu").manual_seed(wanted.seed),
            callback_on_step_end=on_step_end if shown else None,
        ).images[0]
        return image

    def _preview(self, latents: torch.Tensor) -> Image.Image:
        scaled = latents / self._tiny_vae.config.scaling_factor
        pixels = self._tiny_vae.decode(scaled, return_dict=False)[0]
        image: Image.Image = self._pipeline.image_processor.postprocess(pixels)[0]
        return image


class EventStreams:
    """Server-sent events of one picture at a time: the pipeline keeps state while it runs, and a
    runner of fal's is given one request at a time. The others wait."""

    def __init__(self, pipeline: PreviewingPipeline) -> None:
        self._pipeline = pipeline
        self._one_at_a_time = threading.Lock()

    def events(self, wanted: Wanted) -> Iterator[str]:
        made: queue.Queue[tuple[int, Image.Image] | Exception] = queue.Queue()

        def work() -> None:
            try:
                with self._one_at_a_time:
                    final = self._pipeline.picture(wanted, lambda *shown: made.put(shown))
                made.put((wanted.steps, final))
            except Exception as failure:  # raised again in the generator
                made.put(failure)

        threading.Thread(target=work).start()
        step = 0
        while step < wanted.steps:
            one = made.get()
            if isinstance(one, Exception):
                raise one
            step, image = one
            yield _event(step, wanted.steps, image)


def _event(step: int, steps: int, image: Image.Image) -> str:
    final = step == steps
    buffer = io.BytesIO()
    image.save(buffer, "jpeg", quality=FINAL_QUALITY if final else PREVIEW_QUALITY)
    url = "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
    fields = {
        "image": {"url": url, "content_type": "image/jpeg"},
        "type": "final" if final else "preview",
        "step": step,
        "steps": steps,
    }
    return f"data: {json.dumps(fields)}\n\n"
