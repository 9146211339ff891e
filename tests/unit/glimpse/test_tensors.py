"""`glimpse.tensors`: there and back, to the bit."""

import numpy as np
import pytest
import torch

from glimpse.tensors import from_array, to_array

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("dtype", "array_dtype"),
    [
        (torch.float32, np.float32),
        (torch.float16, np.float16),
        (torch.bfloat16, np.uint16),
    ],
)
def test_a_tensor_comes_back_as_it_went(dtype: torch.dtype, array_dtype: type) -> None:
    tensor = torch.randn(4, 5).to(dtype)
    array = to_array(tensor)
    assert array.dtype == array_dtype
    assert array.shape == (4, 5)
    back = from_array(array, CPU, dtype)
    assert back.dtype == dtype
    assert torch.equal(back, tensor)


def test_it_comes_back_in_the_dtype_of_whoever_takes_it() -> None:
    tensor = torch.randn(3).to(torch.bfloat16)
    assert torch.equal(from_array(to_array(tensor), CPU, torch.float32), tensor.float())


def test_strided_tensors_and_gradients_are_no_obstacle() -> None:
    tensor = torch.randn(4, 5, requires_grad=True).T
    array = to_array(tensor)
    assert array.flags.c_contiguous
    assert np.array_equal(array, tensor.detach().numpy())


def test_a_tensor_is_made_from_a_read_only_array_and_owns_its_memory() -> None:
    array = np.zeros(3, np.float32)
    array.flags.writeable = False
    tensor = from_array(array, CPU, torch.float32)
    tensor += 1
    assert array.sum() == 0
