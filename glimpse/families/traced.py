"""A network's call recorded once, and run without Python."""

import warnings

import torch

from glimpse.engine.job import Rows
from glimpse.families.cuda_graphs import Call


class Traced:
    """A `Call` that runs what another one did with its example, for any number of rows.

    A small network on a CPU spends a quarter of its time in Python, between one operation and the
    next, where nobody else of the process gets the interpreter's lock and only one core works. The
    operations are the same, and so is the result, to the bit.

    What a UNet does depends on the size only where halving it leaves a remainder: latents whose
    sides are no multiples of `multiple` go the untraced way.
    """

    # torch.jit is deprecated in favour of torch.compile, which needs a C++ compiler on the user's
    # machine, and of torch.export, whose modules run in Python again and gain nothing.

    def __init__(
        self,
        call: Call,
        example: tuple[torch.Tensor, torch.Tensor, Rows],
        module: torch.nn.Module,
        multiple: int,
    ) -> None:
        """`module` has the weights that `call` uses: they are shared, not copied."""
        self._call = call
        self._multiple = multiple
        latents, timesteps, rows = example
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", torch.jit.TracerWarning)  # type: ignore[attr-defined]
            warnings.simplefilter("ignore", DeprecationWarning)
            self._traced = torch.jit.trace(  # type: ignore[no-untyped-call]
                _Flat(call, module), (latents, timesteps, *rows.tensors), check_trace=False
            )

    def __call__(self, latents: torch.Tensor, timesteps: torch.Tensor, rows: Rows) -> torch.Tensor:
        if any(side % self._multiple for side in latents.shape[2:]):
            return self._call(latents, timesteps, rows)
        # Nothing to optimise: by itself, torch would look for something during the first calls.
        with torch.jit.optimized_execution(False):  # type: ignore[attr-defined]
            prediction: torch.Tensor = self._traced(latents, timesteps, *rows.tensors)
        return prediction


class _Flat(torch.nn.Module):
    """A call as tracing wants it: a module that takes tensors."""

    def __init__(self, call: Call, module: torch.nn.Module) -> None:
        super().__init__()
        self._call = call
        self._module = module
        self.eval()

    def forward(
        self, latents: torch.Tensor, timesteps: torch.Tensor, *tensors: torch.Tensor
    ) -> torch.Tensor:
        return self._call(latents, timesteps, Rows(tensors))
