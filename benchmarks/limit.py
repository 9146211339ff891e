"""What the hardware allows: the bare network loop at a batch, and nothing else.

torch and diffusers only: the network and the solver for a whole batch in step, each preview and the
final pictures decoded for the whole batch at once; no text, no JPEG, no server. In a process of its
own, whose malloc keeps what is freed, as it does under the service.
"""

import os
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

from benchmarks.processes import peak_memory, working
from benchmarks.task import PREVIEW_EVERY, PROMPTS, Task, preview_steps
from glimpse.torch_thread import keep_freed_memory

WARM_UP_CALLS = 3  # after a pause the first are slow


@dataclass(frozen=True, slots=True)
class Effort:
    """How much is measured: batches of so many jobs, repetitions of a call and of a whole loop, and
    sides in pixels of the batching curves."""

    jobs: tuple[int, ...]
    calls: int
    loops: int
    sizes: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Lap:
    """A batch of jobs from noise to pictures, with the number of threads and the memory layouts
    that it is fastest with: medians, in seconds. A tick is one step of the whole batch."""

    jobs: int
    threads: int
    network_channels_last: bool
    tiny_vae_channels_last: bool
    full_vae_channels_last: bool
    tick_s: float
    previews_s: float
    finals_s: float
    pictures_per_s: float

    @property
    def preview_s(self) -> float:
        """What the previews of one picture take, decoded in batches."""
        return self.previews_s / self.jobs


@dataclass(frozen=True, slots=True)
class Point:
    """The network's tick at a size (the side of a square picture, in pixels)."""

    size: int
    jobs: int
    tick_s: float


@dataclass(frozen=True, slots=True)
class Figure:
    laps: list[Lap]
    curves: list[Point]
    peak_pss: int = 0


class Limit:
    """The process, idle unless it is asked."""

    def __init__(self, connection: Connection, figure: Figure) -> None:
        self._connection = connection
        self.figure = figure

    def pictures_per_s(self, jobs: int) -> float:
        """Right now, of a batch of as many jobs as one of the laps, with its settings."""
        self._connection.send(jobs)
        pictures_per_s: float = self._connection.recv()
        return pictures_per_s


@contextmanager
def running(task: Task, effort: Effort) -> Iterator[Limit]:
    """The figure, and then the limit as it is at any moment, until the block is left."""
    with working(_run, task, effort) as (connection, process):
        with peak_memory(process) as peak:
            found: Figure = connection.recv()
        yield Limit(connection, Figure(found.laps, found.curves, peak.pss))


class _Limit:
    def __init__(self, task: Task, effort: Effort) -> None:
        import torch
        from diffusers import AutoencoderTiny, StableDiffusionXLPipeline

        pipeline = StableDiffusionXLPipeline.from_pretrained(task.model, dtype=torch.float32)
        self._task, self._effort = task, effort
        self._pipeline = pipeline
        self._unet, self._vae, self._scheduler = pipeline.unet, pipeline.vae, pipeline.scheduler
        self._tiny_vae = AutoencoderTiny.from_pretrained(task.tiny_vae).eval()
        self._shown = preview_steps(task.steps, PREVIEW_EVERY)
        self._batches: dict[int, tuple[_Batch, Lap]] = {}

    def figure(self) -> Figure:
        laps = [self._lap(jobs) for jobs in self._effort.jobs]
        return Figure(laps, [self._point(size, lap) for size in self._effort.sizes for lap in laps])

    def _lap(self, jobs: int) -> Lap:
        batch = _Batch(self._task, self._pipeline, jobs, self._task.width, self._task.height)
        latents = batch.noise

        def fastest_layout(model: Any, call: Callable[[], object]) -> tuple[float, bool]:
            timed = []
            for channels_last in (False, True):
                _lay_out(model, channels_last)
                timed.append((_seconds(call, self._effort.calls), channels_last))
            return min(timed)

        settings = []
        for threads in _thread_counts():
            _use_threads(threads)
            tick_s, network = fastest_layout(self._unet, lambda: self._predict(batch))
            settings.append((tick_s, network, threads))
        _, network, threads = min(settings)
        _use_threads(threads)
        _, tiny_vae = fastest_layout(self._tiny_vae, lambda: self._decode(self._tiny_vae, latents))
        _, full_vae = fastest_layout(self._vae, lambda: self._decode(self._vae, latents))
        self._set_up(threads, network, tiny_vae, full_vae)
        self._loop(batch)
        loops = [self._loop(batch) for _ in range(self._effort.loops)]
        lap = Lap(
            jobs=jobs,
            threads=threads,
            network_channels_last=network,
            tiny_vae_channels_last=tiny_vae,
            full_vae_channels_last=full_vae,
            tick_s=statistics.median(tick for loop in loops for tick in loop.ticks_s),
            previews_s=statistics.median(loop.previews_s for loop in loops),
            finals_s=statistics.median(loop.finals_s for loop in loops),
            pictures_per_s=jobs / statistics.median(loop.seconds for loop in loops),
        )
        self._batches[jobs] = batch, lap
        return lap

    def pictures_per_s(self, jobs: int) -> float:
        batch, lap = self._batches[jobs]
        self._set_up(
            lap.threads,
            lap.network_channels_last,
            lap.tiny_vae_channels_last,
            lap.full_vae_channels_last,
        )
        for _ in range(WARM_UP_CALLS):
            self._predict(batch)
        for vae in (self._tiny_vae, self._vae):
            self._decode(vae, batch.noise)
        return jobs / self._loop(batch).seconds

    def _set_up(self, threads: int, network: bool, tiny_vae: bool, full_vae: bool) -> None:
        """The number of threads, and whether a model's weights are channels last."""
        _use_threads(threads)
        _lay_out(self._unet, network)
        _lay_out(self._tiny_vae, tiny_vae)
        _lay_out(self._vae, full_vae)

    def _point(self, size: int, lap: Lap) -> Point:
        batch = _Batch(self._task, self._pipeline, lap.jobs, size, size)
        _use_threads(lap.threads)
        _lay_out(self._unet, lap.network_channels_last)
        return Point(size, lap.jobs, _seconds(lambda: self._predict(batch), self._effort.calls))

    def _loop(self, batch: "_Batch") -> "_Loop":
        began = time.perf_counter()
        self._scheduler.set_timesteps(self._task.steps)
        latents = batch.noise * self._scheduler.init_noise_sigma
        ticks_s, previews_s = [], 0.0
        for step, timestep in enumerate(self._scheduler.timesteps, 1):
            tick = time.perf_counter()
            rows = self._scheduler.scale_model_input(batch.rows(latents), timestep)
            prediction = self._network(batch, rows, timestep)
            latents, denoised = self._scheduler.step(
                prediction, timestep, latents, return_dict=False
            )[:2]
            now = time.perf_counter()
            ticks_s.append(now - tick)
            if step in self._shown:
                self._decode(self._tiny_vae, denoised)
                previews_s += time.perf_counter() - now
        finals = time.perf_counter()
        self._decode(self._vae, latents)
        ended = time.perf_counter()
        return _Loop(ended - began, ticks_s, previews_s, ended - finals)

    def _predict(self, batch: "_Batch") -> Any:
        return self._network(batch, batch.rows(batch.noise), self._scheduler.timesteps[0])

    def _network(self, batch: "_Batch", rows: Any, timestep: Any) -> Any:
        prediction = self._unet(
            rows,
            timestep,
            encoder_hidden_states=batch.tokens,
            added_cond_kwargs={"text_embeds": batch.pooled, "time_ids": batch.time_ids},
            return_dict=False,
        )[0]
        without, guided = prediction.chunk(2)
        return without + self._task.guidance_scale * (guided - without)

    def _decode(self, vae: Any, latents: Any) -> Any:
        return vae.decode(latents / vae.config.scaling_factor, return_dict=False)[0]


@dataclass(frozen=True, slots=True)
class _Loop:
    seconds: float
    ticks_s: list[float]
    previews_s: float
    finals_s: float


class _Batch:
    """What the network is shown of a batch of jobs with guidance: two rows each."""

    def __init__(self, task: Task, pipeline: Any, jobs: int, width: int, height: int) -> None:
        import torch

        prompts = [PROMPTS[index % len(PROMPTS)] for index in range(jobs)]
        tokens, no_tokens, pooled, no_pooled = pipeline.encode_prompt(
            prompts, do_classifier_free_guidance=True
        )
        self.tokens = torch.cat([no_tokens, tokens])
        self.pooled = torch.cat([no_pooled, pooled])
        self.time_ids = torch.tensor([[height, width, 0, 0, height, width]] * 2 * jobs).float()
        factor = pipeline.vae_scale_factor
        shape = (pipeline.unet.config.in_channels, height // factor, width // factor)
        self.noise = torch.cat(
            [
                torch.randn(1, *shape, generator=torch.Generator().manual_seed(seed))
                for seed in range(jobs)
            ]
        )

    def rows(self, latents: Any) -> Any:
        import torch

        return torch.cat([latents, latents])


def _thread_counts() -> Sequence[int]:
    """1, 2, 4 and so on, and all cores."""
    cores = os.cpu_count() or 1
    return sorted({cores, *(2**n for n in range(cores.bit_length()) if 2**n <= cores)})


def _use_threads(threads: int) -> None:
    import torch

    torch.set_num_threads(threads)


def _lay_out(model: Any, channels_last: bool) -> None:
    import torch

    model.to(memory_format=torch.channels_last if channels_last else torch.contiguous_format)


def _seconds(call: Callable[[], object], repetitions: int) -> float:
    """The median; the first call is slow and left out."""
    call()
    seconds = []
    for _ in range(repetitions):
        began = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds)


def _run(connection: Connection, task: Task, effort: Effort) -> None:
    import torch

    keep_freed_memory()
    with torch.inference_mode():
        limit = _Limit(task, effort)
        connection.send(limit.figure())
        while (jobs := connection.recv()) is not None:
            connection.send(limit.pictures_per_s(jobs))
