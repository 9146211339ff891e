"""What models announce to the watchdog of their thread."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import pytest
import torch

from glimpse.decoders import FullVAE, TinyVAE
from glimpse.engine.job import Rows
from glimpse.families.cuda_graphs import CudaGraphs
from glimpse.families.sdxl import SDXLNetwork, SDXLTextEncoder
from glimpse.watch import Phase, Watch


class Noting(Watch):
    def __init__(self) -> None:
        super().__init__()
        self.noted: list[Phase] = []

    @contextmanager
    def phase(self, phase: Phase) -> Iterator[None]:
        self.noted.append(phase)
        with super().phase(phase):
            yield


@pytest.fixture
def watch() -> Iterator[Noting]:
    watch = Noting()
    watch.attach()
    with torch.no_grad():
        yield watch
    Watch().attach()


def each_once(watch: Noting, *calls: Callable[[], object]) -> None:
    """Each announces its first call, and no other."""
    for call in calls:
        watch.noted.clear()
        call()
        assert watch.noted == ["first call"]
    watch.noted.clear()
    for call in calls:
        call()
    assert watch.noted == []


def test_the_first_call_of_each_size_and_count_of_rows(watch: Noting, network: SDXLNetwork) -> None:
    each_once(
        watch,
        lambda: network.run_blank(5, 80, 48),
        lambda: network.run_blank(6, 80, 48),
        lambda: network.run_blank(5, 48, 80),
    )


def test_the_first_picture_of_each_size_each_way(
    watch: Noting, full_vae: FullVAE, tiny_vae: TinyVAE
) -> None:
    for vae in (full_vae, tiny_vae):
        latents = np.zeros((5, 4, 6, 10), np.float32)
        picture = np.zeros((48, 80, 3), np.uint8)
        each_once(
            watch,
            lambda vae=vae, latents=latents: vae.decode(list(latents)),  # type: ignore[misc]
            lambda vae=vae, latents=latents: vae.decode(list(latents[:3])),  # type: ignore[misc]
            lambda vae=vae, picture=picture: vae.posterior(picture, None),  # type: ignore[misc]
        )


def test_the_first_call_of_each_count_of_texts(
    watch: Noting, text_encoder: SDXLTextEncoder
) -> None:
    each_once(
        watch,
        lambda: text_encoder.encode([f"text {number}" for number in range(11)]),
        lambda: text_encoder.encode([f"text {number}" for number in range(12)]),
    )


def test_each_recording(watch: Noting) -> None:
    def record(work: Callable[[], torch.Tensor]) -> tuple[torch.Tensor, Callable[[], None]]:
        watch.noted.append("compiling")  # to see that it is within
        return work(), lambda: None

    graphs = CudaGraphs(lambda latents, timesteps, rows: latents, record)
    for _ in range(2):
        graphs(torch.zeros(2, 4, 2, 2), torch.zeros(2), Rows((torch.zeros(2, 3),)))
    assert watch.noted == ["recording", "compiling"]
