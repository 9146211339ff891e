"""Tensors on their way to the host."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray


class HostCopies:
    """Starts copies that no step waits for: on a GPU they leave on a stream of their own."""

    def __init__(self, device: torch.device) -> None:
        self._stream: torch.cuda.Stream | None = None
        if device.type == "cuda":
            self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def start(self, tensor: torch.Tensor) -> "HostCopy":
        """Copies a tensor as it is now, as float32."""
        return self._start(tensor.detach().float().contiguous())

    def keep(self, tensor: torch.Tensor) -> "HostCopy":
        """Copies a tensor as it is now, to the bit. Whatever changes it later does not matter, on
        a CPU as well."""
        tensor = tensor.detach().contiguous()
        if tensor.device.type == "cpu":
            return HostCopy(tensor.clone(), None)
        return self._start(tensor)

    def _start(self, tensor: torch.Tensor) -> "HostCopy":
        if self._stream is None:
            return HostCopy(tensor, None)
        self._stream.wait_stream(torch.cuda.current_stream(tensor.device))
        with torch.cuda.stream(self._stream):
            host = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
            host.copy_(tensor, non_blocking=True)
            arrived = torch.cuda.Event()  # type: ignore[no-untyped-call]
            arrived.record(self._stream)
        # The allocator must not give the memory away while it is read on the other stream.
        tensor.record_stream(self._stream)
        return HostCopy(host, arrived)


class HostCopy:
    """One of them. On a CPU it is there at once."""

    def __init__(self, host: torch.Tensor, arrived: torch.cuda.Event | None) -> None:
        self._host = host
        self._arrived = arrived

    @property
    def there(self) -> bool:
        return self._arrived is None or bool(self._arrived.query())  # type: ignore[no-untyped-call]

    def tensor(self) -> torch.Tensor:
        """Waits where it is not there yet."""
        if self._arrived is not None:
            self._arrived.synchronize()
        return self._host

    def array(self) -> NDArray[np.float32]:
        """As `tensor`; of one that `start` copied."""
        array: NDArray[Any] = self.tensor().numpy()
        return array
