"""A job's state between two steps, to bytes and back. Tensors and JSON; never pickle."""

import json
from dataclasses import asdict, fields
from typing import Any

import safetensors
import safetensors.torch

from glimpse.engine.job import Inpainting, RunningJob

HISTORY = "history."
KEPT = tuple(field.name for field in fields(Inpainting))


def save(job: RunningJob) -> bytes:
    """The state of a job, and its settings. The text is not in it: whoever resumes a job has that,
    and can have it encoded again.
    """
    tensors, numbers = job.solver.history()
    kept = job.inpainting
    return safetensors.torch.save(
        {
            "latents": job.latents.contiguous(),
            "generator": job.generator.get_state(),
            **{HISTORY + name: tensor.contiguous() for name, tensor in tensors.items()},
            **{name: getattr(kept, name).contiguous() for name in KEPT if kept is not None},
        },
        metadata={
            "index": json.dumps(job.index),
            "settings": json.dumps(_settings(job)),
            "solver": json.dumps(numbers),
        },
    )


def restore(job: RunningJob, state: bytes) -> None:
    """Puts a job that has not begun where `state` was taken. Raises `ValueError` for another's."""
    metadata = _metadata(state)
    tensors = safetensors.torch.load(state)
    taken_with, wanted = json.loads(metadata["settings"]), _settings(job)
    if others := [name for name in wanted if wanted[name] != taken_with.get(name)]:
        raise ValueError(f"this checkpoint is of a job with another {', '.join(others)}")
    if ("mask" in tensors) != (job.inpainting is not None):
        raise ValueError("of this checkpoint and its job, one has a mask and the other has none")
    device = job.latents.device
    if job.inpainting is not None:  # an encoder elsewhere may round otherwise
        job.inpainting = Inpainting(**{name: tensors[name].to(device) for name in KEPT})
    job.latents = tensors["latents"].to(device)
    job.generator.set_state(tensors["generator"])
    job.index = json.loads(metadata["index"])
    history = {
        name.removeprefix(HISTORY): tensor.to(device)
        for name, tensor in tensors.items()
        if name.startswith(HISTORY)
    }
    job.solver.restore(job.index, history, json.loads(metadata["solver"]))


def _settings(job: RunningJob) -> dict[str, Any]:
    """What the picture depends on: all but the id."""
    return {name: value for name, value in asdict(job.settings).items() if name != "id"}


def _metadata(state: bytes) -> dict[str, str]:
    """safetensors gives metadata only for files; its format starts with a JSON header's length."""
    length = int.from_bytes(state[:8], "little")
    metadata: dict[str, str] = json.loads(state[8 : 8 + length])["__metadata__"]
    return metadata
