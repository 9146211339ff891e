"""One job at a time: what any faster way of stepping is checked against."""

from typing import Any

import torch

from glimpse.engine import checkpoint
from glimpse.engine.job import Network, RunningJob
from glimpse.engine.solver import Solver
from glimpse.ports import Job


def begin(
    job: Job, conditioning: Any, image: Any, network: Network, resume_from: bytes | None
) -> RunningJob:
    """A job before its first step, or at the step where `resume_from` was taken.

    The one generator of a job draws in the order of the diffusers pipeline: the posterior's sample
    where there is an input picture, then the noise, then what the solver needs. It lives on the
    CPU, so that a seed means the same picture on every device.
    """
    steps = job.num_inference_steps
    if image is not None:
        steps = int(steps * job.strength)
    solver = Solver(job.scheduler, network.scheduler_config, job.num_inference_steps, steps)
    generator = torch.Generator("cpu").manual_seed(job.seed)
    factor = network.latent_factor
    shape = (1, network.latent_channels, job.height // factor, job.width // factor)

    def draw(dtype: torch.dtype) -> torch.Tensor:
        return torch.randn(shape, generator=generator, dtype=dtype).to(network.device)

    original = None
    if image is not None:
        posterior = network.posterior(image)
        sample = posterior.mean + posterior.std * draw(posterior.mean.dtype)
        original = (posterior.scale * sample).to(network.dtype)
    running = RunningJob(
        rows=network.rows(conditioning, job.guidance_scale > 1, job.width, job.height),
        solver=solver,
        guidance_scale=job.guidance_scale,
        generator=generator,
        latents=solver.start(draw(network.dtype), original),
    )
    if resume_from is not None:
        checkpoint.restore(running, resume_from)
    return running


def advance(job: RunningJob, network: Network) -> torch.Tensor:
    """One step. Gives the denoised estimate [1, C, h, w]."""
    latents = job.solver.scale_input(job.latents, job.index)
    prediction = network.predict(
        latents.repeat(len(job.rows), 1, 1, 1),
        job.solver.timestep(job.index).expand(len(job.rows)),
        job.rows,
    )
    if len(job.rows) == 2:
        # Classifier-free guidance, Ho and Salimans 2022, equation 6 as diffusers writes it.
        negative, positive = prediction.chunk(2)
        prediction = negative + job.guidance_scale * (positive - negative)
    job.latents, denoised = job.solver.step(prediction, job.latents, job.index, job.generator)
    job.index += 1
    return denoised
