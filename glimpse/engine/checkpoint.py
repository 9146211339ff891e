"""A job's state between two steps, to bytes and back. Tensors and JSON; never pickle."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import safetensors
import safetensors.torch

from glimpse.engine.host_copy import HostCopies, HostCopy
from glimpse.engine.job import Inpainting, RunningJob

HISTORY = "history."
KEPT = tuple(field.name for field in fields(Inpainting))


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The state of a job after a step, on its way to the host. The job may go on meanwhile."""

    tensors: Mapping[str, HostCopy]
    metadata: dict[str, str]

    @property
    def there(self) -> bool:
        return all(copy.there for copy in self.tensors.values())

    def state(self) -> bytes:
        """Waits where it is not there yet."""
        tensors = {name: copy.tensor() for name, copy in self.tensors.items()}
        return safetensors.torch.save(tensors, metadata=self.metadata)


def take(job: RunningJob, copies: HostCopies) -> Snapshot:
    """The state of a job, and its settings. The text is not in it: whoever resumes a job has that,
    and can have it encoded again.
    """
    history, numbers = job.solver.history()
    kept = job.inpainting
    tensors = {
        "latents": job.latents,
        "generator": job.generator.get_state(),
        **{HISTORY + name: tensor for name, tensor in history.items()},
        **{name: getattr(kept, name) for name in KEPT if kept is not None},
    }
    return Snapshot(
        {name: copies.keep(tensor) for name, tensor in tensors.items()},
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
