"""A job's first latents, and one step of many jobs in one call of the network."""

from collections.abc import Sequence
from typing import Any

import torch

from glimpse.engine import checkpoint
from glimpse.engine.job import Inpainting, Network, Rows, RunningJob
from glimpse.engine.solver import Solver
from glimpse.ports import Job


def begin(
    job: Job, conditioning: Any, image: Any, network: Network, resume_from: bytes | None
) -> RunningJob:
    """A job before its first step, or at the step where `resume_from` was taken.

    The one generator of a job draws in the order of the diffusers pipelines: the posterior's sample
    where there is an input picture, the noise, a sample of the masked picture's posterior where
    there is a mask, then what the solver needs. It lives on the CPU, so that a seed means the same
    picture on every device.
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

    original = inpainting = None
    if image is not None:
        posterior = network.posterior(image)
        sample = posterior.mean + posterior.std * draw(posterior.mean.dtype)
        original = (posterior.scale * sample).to(network.dtype)
    noise = draw(network.dtype)
    if original is not None and posterior.mask is not None:
        inpainting = Inpainting(original, noise, posterior.mask)
        # Only a network of 9 channels is shown the masked picture; the pipeline always draws.
        draw(posterior.mean.dtype)
        if job.strength == 1.0:
            original = None  # unlike image to image, it then starts from noise alone
    running = RunningJob(
        settings=job,
        rows=network.rows(conditioning, job.guidance_scale > 1, job.width, job.height),
        solver=solver,
        generator=generator,
        latents=solver.start(noise, original),
        inpainting=inpainting,
    )
    if resume_from is not None:
        checkpoint.restore(running, resume_from)
    return running


def predict(jobs: Sequence[RunningJob], network: Network) -> list[torch.Tensor]:
    """What the network makes of each job's latents, [1, C, h, w], with guidance applied.

    All jobs are rows of one call; each may be at another step. Changes nothing.
    """
    predictions = network.predict(
        torch.cat([_input(job) for job in jobs]),
        torch.cat([job.solver.timestep(job.index).float().expand(len(job.rows)) for job in jobs]),
        _joined([job.rows for job in jobs]),
    )
    each = torch.split(predictions, [len(job.rows) for job in jobs])
    return [_guided(job, rows) for job, rows in zip(jobs, each, strict=True)]


def advance(job: RunningJob, prediction: torch.Tensor) -> torch.Tensor:
    """The solver's step. Gives the denoised estimate [1, C, h, w].

    An inpainting's latents and estimate are the input picture's where it is kept.
    """
    job.latents, denoised = job.solver.step(prediction, job.latents, job.index, job.generator)
    job.index += 1
    kept = job.inpainting
    if kept is not None:
        noised = job.solver.noised(kept.original, kept.noise, job.index)
        job.latents = _blended(noised, job.latents, kept.mask)
        denoised = _blended(kept.original, denoised, kept.mask)
    return denoised


def _blended(kept: torch.Tensor, repainted: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Blended latent diffusion, Avrahami et al. 2022, as diffusers' inpainting writes it."""
    return (1 - mask) * kept + mask * repainted


def _input(job: RunningJob) -> torch.Tensor:
    latents = job.solver.scale_input(job.latents, job.index)
    return latents.repeat(len(job.rows), 1, 1, 1)


def _joined(parts: Sequence[Rows]) -> Rows:
    tensors = zip(*(rows.tensors for rows in parts), strict=True)
    return Rows(tuple(torch.cat(several) for several in tensors))


def _guided(job: RunningJob, rows: torch.Tensor) -> torch.Tensor:
    """Classifier-free guidance, Ho and Salimans 2022, equation 6 as diffusers writes it."""
    if len(rows) == 1:
        return rows
    negative, positive = rows.chunk(2)
    return negative + job.settings.guidance_scale * (positive - negative)
