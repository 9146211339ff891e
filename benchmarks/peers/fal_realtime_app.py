"""A real `fal.App` with `@fal.realtime`, served as `fal_app` is.

As fal's realtime demos are written: the pipeline with a TinyVAE in place of its VAE, one message
after the other, the picture as a JPEG in msgpack.
"""

import io
import os
from typing import Any

import fal
import torch
from diffusers import AutoencoderTiny, StableDiffusionXLPipeline
from fal.ref import set_current_app
from pydantic import BaseModel

from benchmarks.peers.previewing import FINAL_QUALITY
from benchmarks.task import Task


class Input(BaseModel):
    prompt: str
    seed: int
    num_inference_steps: int


class RealtimeApp(fal.App):  # type: ignore[misc]
    def setup(self) -> None:
        torch.set_num_threads(int(os.environ["BENCHMARK_THREADS"]))
        self._task = task = Task.from_json(os.environ["BENCHMARK_TASK"])
        self._pipeline = StableDiffusionXLPipeline.from_pretrained(task.model, dtype=torch.float32)
        self._pipeline.vae = AutoencoderTiny.from_pretrained(task.tiny_vae).eval()
        self._pipeline.set_progress_bar_config(disable=True)

    @fal.realtime("/realtime")  # type: ignore[untyped-decorator]
    def generate(self, input: Input) -> dict[str, Any]:
        image = self._pipeline(
            input.prompt,
            num_inference_steps=input.num_inference_steps,
            guidance_scale=self._task.guidance_scale,
            width=self._task.width,
            height=self._task.height,
            generator=torch.Generator("cpu").manual_seed(input.seed),
        ).images[0]
        buffer = io.BytesIO()
        image.save(buffer, "jpeg", quality=FINAL_QUALITY)
        return {
            "image": {
                "content": buffer.getvalue(),
                "content_type": "image/jpeg",
                "width": image.width,
                "height": image.height,
            },
            "seed": input.seed,
        }


def asgi() -> Any:
    """What `fal run --local` serves, less the binding to all interfaces."""
    app = RealtimeApp()
    set_current_app(app)
    return app._build_app()
