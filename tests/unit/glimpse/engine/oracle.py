"""The unmodified diffusers pipelines, and our engine on the same job."""

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import (
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    LCMScheduler,
    UniPCMultistepScheduler,
)

from glimpse.engine import checkpoint, reference, steps
from glimpse.engine.host_copy import HostCopies
from glimpse.engine.job import Network
from glimpse.input_pictures.masks import Cells
from glimpse.input_pictures.reading import Pixels
from glimpse.ports import Job

SCHEDULERS: dict[str, Any] = {
    "euler": EulerDiscreteScheduler,
    "euler_ancestral": EulerAncestralDiscreteScheduler,
    "dpmpp_2m": DPMSolverMultistepScheduler,
    "ddim": functools.partial(DDIMScheduler.from_config, clip_sample=False),
    "unipc": UniPCMultistepScheduler,
    "lcm": functools.partial(LCMScheduler.from_config, clip_sample=False),
}
# As in stabilityai/stable-diffusion-xl-base-1.0, where the built-in model's predicts velocity.
SDXL_SCHEDULER = {
    "_class_name": "EulerDiscreteScheduler",
    "_diffusers_version": "0.19.0.dev0",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "clip_sample": False,
    "interpolation_type": "linear",
    "num_train_timesteps": 1000,
    "prediction_type": "epsilon",
    "sample_max_value": 1.0,
    "set_alpha_to_one": False,
    "skip_prk_steps": True,
    "steps_offset": 1,
    "timestep_spacing": "leading",
    "use_karras_sigmas": False,
}
PROMPT = "a red lighthouse by the sea"


def make_job(**changes: Any) -> Job:
    """A job of another width than height, so that no one mixes them up."""
    fields: dict[str, Any] = {
        "id": "r1/0",
        "width": 64,
        "height": 32,
        "num_inference_steps": 4,
        "guidance_scale": 4.5,
        "seed": 3,
        "scheduler": "euler",
        "strength": 1.0,
    }
    return Job(**(fields | changes))


def chance_pixels(job: Job) -> tuple[torch.Tensor, Pixels]:
    """Random pixels [1, 3, H, W] from 0 to 1, and as the stages take them, [H, W, 3].

    The pipelines are not given the PIL picture, whose other layout in memory stays with the latents
    up to the network, where it changes the last bits.
    """
    generator = torch.Generator().manual_seed(3)
    pixels = torch.randint(0, 256, (3, job.height, job.width), generator=generator)
    return pixels[None] / 255, pixels.permute(1, 2, 0).byte().numpy()


def chance_mask(job: Job) -> tuple[torch.Tensor, Cells]:
    """A random mask of cells, as the pipelines take it, each cell 8 x 8 pixels, and as it is."""
    generator = torch.Generator().manual_seed(1)
    cells = torch.rand((job.height // 8, job.width // 8), generator=generator) < 0.5
    enlarged = cells.repeat_interleave(8, 0).repeat_interleave(8, 1)
    return enlarged[None, None].float(), cells.numpy()


@dataclass(slots=True)
class Made:
    """What a run leaves: its last latents, its estimates, and its state after each step."""

    latents: torch.Tensor
    denoised: list[torch.Tensor]
    states: list[bytes]


@torch.no_grad()
def ours(
    network: Network,
    job: Job,
    conditioning: Any,
    image: Any = None,
    resume_from: bytes | None = None,
) -> Made:
    running = steps.begin(job, conditioning, image, network, resume_from)
    made = Made(running.latents, [], [])
    while not running.done:
        made.denoised.append(reference.advance(running, network))
        made.states.append(checkpoint.take(running, HostCopies(network.device)).state())
    made.latents = running.latents
    return made


def theirs(
    pipeline: Any, job: Job, negative_prompt: str | None, config: Mapping[str, Any], **options: Any
) -> Made:
    """`options` are the size, or the picture and the strength."""
    make = SCHEDULERS[job.scheduler]
    pipeline.scheduler = getattr(make, "from_config", make)(config)
    denoised: list[torch.Tensor] = []
    _record(pipeline.scheduler, denoised)
    latents = pipeline(
        PROMPT,
        negative_prompt=negative_prompt,
        num_inference_steps=job.num_inference_steps,
        guidance_scale=job.guidance_scale,
        generator=torch.Generator().manual_seed(job.seed),
        output_type="latent",
        **options,
    ).images
    return Made(latents, denoised, [])


def _record(scheduler: Any, denoised: list[torch.Tensor]) -> None:
    step = scheduler.step

    @functools.wraps(step)  # the pipeline looks at its parameters
    def recording(prediction: Any, timestep: Any, sample: Any, **options: Any) -> tuple[Any]:
        if hasattr(scheduler, "convert_model_output"):  # the multistep ones tell it nowhere else
            scheduler._step_index is None and scheduler._init_step_index(timestep)
            denoised.append(scheduler.convert_model_output(prediction, sample=sample))
        stepped = step(prediction, timestep, sample, **(options | {"return_dict": True}))
        for name in ("pred_original_sample", "denoised"):
            if name in stepped:
                denoised.append(stepped[name])
        return (stepped.prev_sample,)

    scheduler.step = recording
