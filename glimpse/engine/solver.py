"""One step of a diffusers scheduler for one job."""

import copy
import functools
import inspect
import json
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from diffusers.schedulers.scheduling_dpmsolver_multistep import DPMSolverMultistepScheduler
from diffusers.schedulers.scheduling_euler_ancestral_discrete import (
    EulerAncestralDiscreteScheduler,
)
from diffusers.schedulers.scheduling_euler_discrete import EulerDiscreteScheduler
from diffusers.schedulers.scheduling_lcm import LCMScheduler
from diffusers.schedulers.scheduling_unipc_multistep import UniPCMultistepScheduler

# Without clip_sample=False, DDIM cuts off latents at 1, as if they were pixels.
SCHEDULERS: dict[str, tuple[Any, dict[str, Any]]] = {
    "euler": (EulerDiscreteScheduler, {}),
    "euler_ancestral": (EulerAncestralDiscreteScheduler, {}),
    "dpmpp_2m": (DPMSolverMultistepScheduler, {}),
    "ddim": (DDIMScheduler, {"clip_sample": False}),
    "unipc": (UniPCMultistepScheduler, {}),
    "lcm": (LCMScheduler, {"clip_sample": False}),
}
"""The solvers of the API: diffusers' class, and what it must be told beside the model's config."""

# What the multistep schedulers remember from step to step; the others remember only where they are.
HISTORY_TENSORS = ("model_outputs", "last_sample")
HISTORY_NUMBERS = ("lower_order_nums", "this_order", "timestep_list")


class Stepped(NamedTuple):
    """Both of shape [1, C, h, w]."""

    latents: torch.Tensor
    denoised: torch.Tensor


@functools.lru_cache(maxsize=64)
def _set_up(name: str, config: str, num_inference_steps: int) -> Any:
    """Diffusers' scheduler before its first step. `config` is JSON."""
    scheduler_class, overrides = SCHEDULERS[name]
    scheduler = scheduler_class.from_config(json.loads(config), **overrides)
    scheduler.set_timesteps(num_inference_steps)
    return scheduler


class Solver:
    """One job's scheduler, with its own state; nothing is shared between jobs.

    Timesteps and sigmas stay on the host, so that no step waits for the device to read one. The
    equations are diffusers'.
    """

    def __init__(
        self, name: str, config: Mapping[str, Any], num_inference_steps: int, steps: int
    ) -> None:
        """The last `steps` of `num_inference_steps` are run: image to image skips the others."""
        # To set one up takes a millisecond, during which no job steps; to copy it, a tenth.
        ready = _set_up(name, json.dumps(config, sort_keys=True), num_inference_steps)
        self._scheduler = copy.deepcopy(ready)
        self._first = len(self._scheduler.timesteps) - steps
        self._timesteps = self._scheduler.timesteps[self._first :]
        self._draws_noise = "generator" in inspect.signature(self._scheduler.step).parameters
        self.resume(0)

    def __len__(self) -> int:
        return len(self._timesteps)

    def resume(self, index: int) -> None:
        """Goes to a step (from 0)."""
        if hasattr(self._scheduler, "set_begin_index"):  # DDIM counts by the timestep itself
            self._scheduler.set_begin_index(self._first + index)

    def timestep(self, index: int) -> torch.Tensor:
        """The timestep of a step (from 0), shape []."""
        timestep: torch.Tensor = self._timesteps[index]
        return timestep

    def start(self, noise: torch.Tensor, original: torch.Tensor | None) -> torch.Tensor:
        """The first latents: noise at the first sigma, on top of `original` where there is one."""
        if original is not None:
            return self.noised(original, noise, 0)
        latents: torch.Tensor = noise * self._scheduler.init_noise_sigma
        return latents

    def noised(self, original: torch.Tensor, noise: torch.Tensor, index: int) -> torch.Tensor:
        """`original` [1, C, h, w] under the noise of the step that is next, `index` (from 0); after
        the last step as it is.
        """
        if index == len(self):
            return original
        # The scheduler is asked for the two factors alone: given latents on a GPU, it would move
        # its sigmas there, and wait for the steps that are under way.
        one, none = (torch.full((1,), value, dtype=original.dtype) for value in (1, 0))
        timestep = self._timesteps[index : index + 1]
        signal = self._scheduler.add_noise(one, none, timestep)[0]
        sigma = self._scheduler.add_noise(none, one, timestep)[0]
        noised: torch.Tensor = signal * original + sigma * noise
        return noised

    def scale_input(self, latents: torch.Tensor, index: int) -> torch.Tensor:
        """What the network is shown at a step."""
        scaled: torch.Tensor = self._scheduler.scale_model_input(latents, self._timesteps[index])
        return scaled

    def step(
        self,
        prediction: torch.Tensor,
        latents: torch.Tensor,
        index: int,
        generator: torch.Generator,
    ) -> Stepped:
        """One step for the network's `prediction` [1, C, h, w], with guidance applied."""
        extra = {"generator": generator} if self._draws_noise else {}
        stepped = self._scheduler.step(
            prediction, self._timesteps[index], latents, return_dict=False, **extra
        )
        # The multistep solvers return no estimate; they keep the converted output, which it is.
        denoised = stepped[1] if len(stepped) > 1 else self._scheduler.model_outputs[-1]
        return Stepped(stepped[0], denoised)

    def history(self) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
        """What a checkpoint needs of the solver: tensors, and what fits in JSON."""
        tensors: dict[str, torch.Tensor] = {}
        for name in HISTORY_TENSORS:
            value = getattr(self._scheduler, name, None)
            for place, tensor in enumerate(value if isinstance(value, list) else [value]):
                if tensor is not None:
                    tensors[f"{name}.{place}"] = tensor
        numbers = {
            name: [None if n is None else float(n) for n in value]
            if isinstance(value := getattr(self._scheduler, name), list)
            else value
            for name in HISTORY_NUMBERS
            if hasattr(self._scheduler, name)
        }
        return tensors, numbers

    def restore(
        self, index: int, tensors: Mapping[str, torch.Tensor], numbers: Mapping[str, Any]
    ) -> None:
        """Goes to a step (from 0) with the history of another solver of the same settings."""
        self.resume(index)
        for key, tensor in tensors.items():
            name, place = key.rsplit(".", 1)
            value = getattr(self._scheduler, name)
            if isinstance(value, list):
                value[int(place)] = tensor
            else:
                setattr(self._scheduler, name, tensor)
        for name, number in numbers.items():
            if isinstance(number, list):
                number = [None if n is None else torch.tensor(n) for n in number]
            setattr(self._scheduler, name, number)
