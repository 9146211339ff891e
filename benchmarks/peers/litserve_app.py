"""The same design on LitServe: `python -m benchmarks.peers.litserve_app PORT`."""

import os
import sys
from collections.abc import Iterator
from typing import Any

import litserve
import torch

from benchmarks.peers.previewing import EventStreams, PreviewingPipeline
from benchmarks.task import Task, Wanted


class PreviewingAPI(litserve.LitAPI):  # type: ignore[misc]
    def setup(self, device: str) -> None:
        torch.set_num_threads(int(os.environ["BENCHMARK_THREADS"]))
        pipeline = PreviewingPipeline(Task.from_json(os.environ["BENCHMARK_TASK"]))
        self._streams = EventStreams(pipeline)

    def decode_request(self, request: dict[str, Any]) -> Wanted:
        return Wanted(
            request["prompt"],
            request["seed"],
            request["num_inference_steps"],
            request["preview_every"],
        )

    def predict(self, wanted: Wanted) -> Iterator[str]:
        yield from self._streams.events(wanted)

    # LitServe makes its response model of the annotation; with a stream there is none to make.
    def encode_response(self, events: Iterator[str]) -> Any:
        yield from events


if __name__ == "__main__":
    server = litserve.LitServer(
        PreviewingAPI(stream=True, api_path="/stream"),
        accelerator="cpu",
        timeout=False,  # requests may wait for their turn
    )
    server.run(host="127.0.0.1", port=int(sys.argv[1]), generate_client_file=False)
