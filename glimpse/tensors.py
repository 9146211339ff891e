"""Tensors to numpy and back, for their way between processes."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray


def to_array(tensor: torch.Tensor) -> NDArray[Any]:
    """A numpy view; bfloat16, which numpy lacks, becomes uint16 with the same bits."""
    tensor = tensor.detach().cpu().contiguous()
    if tensor.dtype == torch.bfloat16:
        return tensor.view(torch.uint16).numpy()
    return tensor.numpy()


def from_array(array: NDArray[Any], device: torch.device, dtype: torch.dtype) -> torch.Tensor:
    """A tensor of its own: arrays from the object store are read-only. uint16 is bfloat16."""
    tensor = torch.from_numpy(array.copy())
    if array.dtype == np.uint16:
        tensor = tensor.view(torch.bfloat16)
    return tensor.to(device, dtype)
