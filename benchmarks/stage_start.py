"""`python -m benchmarks.stage_start STAGE CONFIG`: starts one stage alone, in this fresh process,
and prints what each part of it took, as JSON."""

import json
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

STAGES = ("TextEncoder", "Denoiser", "PreviewDecoder", "ImageCodec")


@dataclass(frozen=True, slots=True)
class Part:
    """`peak_mb` is the most memory the process has had resident by then."""

    name: str
    wall_s: float
    cpu_s: float
    peak_mb: float


class _Stopwatch:
    def __init__(self) -> None:
        self.parts: list[Part] = []
        self._wall, self._cpu = time.perf_counter(), 0.0

    def lap(self, name: str) -> None:
        """The time since the last lap was spent on this."""
        wall, used = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF)
        cpu = used.ru_utime + used.ru_stime
        peak_mb = used.ru_maxrss * 1024 / 1e6
        self.parts.append(Part(name, wall - self._wall, cpu - self._cpu, peak_mb))
        self._wall, self._cpu = wall, cpu


def measure(stage: str, config: Path) -> list[Part]:
    watch = _Stopwatch()
    import ray.serve  # noqa: F401  what a worker of Ray's has imported before it gets its stage

    watch.lap("Python and Ray")
    import torch

    watch.lap("torch")
    from benchmarks.server import settings_of

    settings = settings_of(config)
    torch.set_num_threads(settings.denoiser.threads if stage == "Denoiser" else 1)
    torch.set_grad_enabled(False)
    load, warm_up = _stage(stage, settings)
    watch.lap("Glimpse and its settings")
    load()
    # The constructors import what they need, so the first call has both, and the second has one.
    watch.lap("diffusers or transformers")
    loaded = load()
    watch.lap("weights")
    warm_up(loaded)
    watch.lap("warm-up")
    return _less_the_second_load(watch.parts)


def _stage(stage: str, settings: Any) -> tuple[Callable[[], Any], Callable[[Any], object]]:
    """How a stage loads, and how it warms up, as its deployment does."""
    from deployments.model_source import model_source, tiny_vae_source, vae_source

    size = settings.model.width, settings.model.height
    match stage:
        case "TextEncoder":
            from glimpse.families.sdxl import SDXLTextEncoder

            return (
                lambda: SDXLTextEncoder(model_source(settings.model)),
                lambda encoder: encoder.encode(["warm up"]),
            )
        case "Denoiser":
            from glimpse.families.sdxl import SDXLNetwork

            return (
                lambda: _with_engine(SDXLNetwork, model_source(settings.model)),
                lambda network: network.warm_up(*size),
            )
        case "PreviewDecoder":
            from glimpse.decoders import TinyVAE

            channels_last = settings.preview_decoder.channels_last
            return (
                lambda: _lean(TinyVAE, tiny_vae_source(settings.model), channels_last),
                lambda vae: vae.warm_up(*size),
            )
        case "ImageCodec":
            from glimpse.decoders import FullVAE

            channels_last = settings.image_codec.channels_last
            return (
                lambda: _lean(FullVAE, vae_source(settings.model), channels_last),
                lambda vae: vae.warm_up(*size),
            )
    raise ValueError(stage)


def _with_engine(network: Any, source: Any) -> Any:
    import glimpse.engine.loop  # noqa: F401  it imports diffusers' solvers

    return network(source)


def _lean(vae: Any, source: Any, channels_last: bool) -> Any:
    from glimpse.lean_imports import lean_imports

    with lean_imports():
        return vae(source, channels_last)


def _less_the_second_load(parts: list[Part]) -> list[Part]:
    *before, both, weights, warm_up = parts
    imports = Part(
        both.name, both.wall_s - weights.wall_s, both.cpu_s - weights.cpu_s, both.peak_mb
    )
    return [*before, imports, weights, warm_up]


if __name__ == "__main__":
    print(json.dumps([asdict(part) for part in measure(sys.argv[1], Path(sys.argv[2]))]))
