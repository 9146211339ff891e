"""A real `fal.App`, served by uvicorn: `uvicorn --factory benchmarks.peers.fal_app:asgi`."""

import os
from typing import Any

import fal
import torch
from fal.ref import set_current_app
from fastapi.responses import StreamingResponse
from pydantic import BaseModel

from benchmarks.peers.previewing import EventStreams, PreviewingPipeline
from benchmarks.task import Task, Wanted


class Input(BaseModel):
    prompt: str
    seed: int
    num_inference_steps: int
    preview_every: int


class PreviewingApp(fal.App):  # type: ignore[misc]
    def setup(self) -> None:
        torch.set_num_threads(int(os.environ["BENCHMARK_THREADS"]))
        pipeline = PreviewingPipeline(Task.from_json(os.environ["BENCHMARK_TASK"]))
        self._streams = EventStreams(pipeline)

    @fal.endpoint("/stream")  # type: ignore[untyped-decorator]
    def stream(self, input: Input) -> StreamingResponse:
        wanted = Wanted(input.prompt, input.seed, input.num_inference_steps, input.preview_every)
        return StreamingResponse(self._streams.events(wanted), media_type="text/event-stream")


def asgi() -> Any:
    """What `fal run --local` serves, less the binding to all interfaces."""
    app = PreviewingApp()
    set_current_app(app)
    return app._build_app()
