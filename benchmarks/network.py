"""One call of the network: diffusers' own, and what the engine makes of it on a CPU, step by step.

In a process of its own: `python -m benchmarks.network CONFIG` prints the figures as JSON.
"""

import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from benchmarks.processes import as_nice_as_workers, output_of
from benchmarks.server import settings_of
from config.settings import AppSettings
from glimpse.torch_thread import keep_freed_memory

ROWS = (2, 4, 8, 16, 32)
CALLS = 20


@dataclass(frozen=True, slots=True)
class Figure:
    """Medians of a call with so many rows, in seconds. Each has what those before it have."""

    rows: int
    diffusers_s: float
    text_once_s: float
    traced_s: float
    shared_out_s: float


def measure(config: Path) -> list[Figure]:
    command = [sys.executable, "-m", "benchmarks.network", str(config)]
    return TypeAdapter(list[Figure]).validate_json(
        output_of(as_nice_as_workers(command)).splitlines()[-1]
    )


def _measure(settings: AppSettings) -> list[Figure]:
    import torch
    from diffusers import UNet2DConditionModel

    from deployments.model_source import model_source
    from glimpse.families.sdxl import SDXLNetwork, Tuning

    keep_freed_memory()
    threads = settings.denoiser.threads
    torch.set_num_threads(threads)
    source = model_source(settings.model)
    unet = UNet2DConditionModel.from_pretrained(source.path, subfolder="unet").eval()
    networks = [
        SDXLNetwork(source, tuning)
        for tuning in (Tuning(), Tuning(traced=True), Tuning(traced=True, threads=threads))
    ]

    def calls(rows: int) -> list[Callable[[], object]]:
        latents, timesteps, given = networks[0].blank(
            rows, settings.model.width, settings.model.height
        )
        pooled, time_ids, *_ = given.tensors
        tokens = torch.zeros(rows, 77, unet.config.cross_attention_dim)
        added = {"text_embeds": pooled, "time_ids": time_ids}

        def diffusers() -> object:
            return unet(
                latents,
                timesteps,
                encoder_hidden_states=tokens,
                added_cond_kwargs=added,
                return_dict=False,
            )

        def ours(network: SDXLNetwork) -> Callable[[], object]:
            return lambda: network.predict(latents, timesteps, given)

        return [diffusers, *map(ours, networks)]

    with torch.inference_mode():
        return [Figure(rows, *_interleaved(calls(rows))) for rows in ROWS]


def _interleaved(calls: list[Callable[[], Any]]) -> list[float]:
    """Medians, in seconds. In turns, as a machine is now faster and now slower; two calls each, of
    which the second counts: threads of another one's may still look for work during the first."""
    seconds: list[list[float]] = [[] for _ in calls]
    for _ in range(CALLS + 1):
        for call, of_call in zip(calls, seconds, strict=True):
            call()
            began = time.perf_counter()
            call()
            of_call.append(time.perf_counter() - began)
    return [statistics.median(of_call[1:]) for of_call in seconds]


if __name__ == "__main__":
    found = _measure(settings_of(Path(sys.argv[1])))
    print(TypeAdapter(list[Figure]).dump_json(found).decode())
