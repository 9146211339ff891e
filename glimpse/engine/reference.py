"""One job at a time: what any faster way of stepping is checked against."""

import torch

from glimpse.engine.job import Network, RunningJob


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
        prediction = negative + job.settings.guidance_scale * (positive - negative)
    job.latents, denoised = job.solver.step(prediction, job.latents, job.index, job.generator)
    job.index += 1
    if job.inpainting is not None:
        original, mask = job.inpainting.original, job.inpainting.mask
        noised = job.solver.noised(original, job.inpainting.noise, job.index)
        job.latents = (1 - mask) * noised + mask * job.latents
        denoised = (1 - mask) * original + mask * denoised
    return denoised
