"""`glimpse.engine.solver`: which solvers there are, and what a step needs of them."""

from typing import Any, get_args

import pytest
import torch

from glimpse.engine.solver import SCHEDULERS, Solver
from glimpse.errors import InvalidRequest
from glimpse.request import LCM_MAX_STEPS, Scheduler, parse_request
from tests.fakes import OFFER
from tests.tiny_model import scheduler_config
from tests.unit.glimpse.engine.oracle import SDXL_SCHEDULER
from tests.wire.sent import ORANGE_URL

SHAPE = (1, 4, 2, 2)


def configs() -> list[Any]:
    return [scheduler_config(), SDXL_SCHEDULER]


def test_every_scheduler_of_the_api_has_a_solver() -> None:
    assert set(SCHEDULERS) == set(get_args(Scheduler))


@pytest.mark.parametrize("name", SCHEDULERS)
@pytest.mark.parametrize("config", configs(), ids=["own", "sdxl"])
def test_any_number_of_steps_can_be_run_to_a_finite_end(name: str, config: Any) -> None:
    most = LCM_MAX_STEPS if name == "lcm" else 100
    for of, steps in ((1, 1), (2, 1), (2, 2), (3, 3), (7, 7), (most, most), (most, 1)):
        solver = Solver(name, config, of, steps)
        generator = torch.Generator().manual_seed(0)
        noise = torch.randn(SHAPE, generator=generator)
        latents = solver.start(noise, None if of == steps else torch.zeros(SHAPE))
        assert len(solver) == steps
        for index in range(steps):
            shown = solver.scale_input(latents, index)
            assert shown.abs().max() < 20
            latents, denoised = solver.step(shown, latents, index, generator)
            assert denoised.shape == SHAPE
        assert latents.isfinite().all()


@pytest.mark.parametrize("name", SCHEDULERS)
@pytest.mark.parametrize("config", configs(), ids=["own", "sdxl"])
def test_what_a_request_may_ask_for_can_be_run_and_nothing_else(name: str, config: Any) -> None:
    wanted = {"prompt": "x", "image_url": ORANGE_URL, "scheduler": name}
    noise, original = torch.randn(SHAPE, generator=torch.Generator().manual_seed(0)), torch.ones(1)
    for of in (*range(1, 21), 25, 30, 49, 50, 51, 75, 99, 100):  # 50 is where lcm ends
        for strength in (0.01, 0.3, 0.6, 0.99, 1.0):
            fields = wanted | {"num_inference_steps": of, "strength": strength}
            try:
                steps = parse_request(fields, OFFER).steps
            except InvalidRequest as refusal:
                field = refusal.problems[0]["loc"][-1]
                if field == "num_inference_steps":
                    with pytest.raises(ValueError, match="num_inference_steps"):
                        Solver(name, config, of, of)
                else:
                    assert field == "strength" and of * strength < 1
                continue
            solver = Solver(name, config, of, steps)
            timesteps = [solver.timestep(index).item() for index in range(len(solver))]
            assert len(timesteps) == steps
            assert all(one > next_ for one, next_ in zip(timesteps, timesteps[1:], strict=False))
            assert solver.start(noise, original).isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", SCHEDULERS)
@pytest.mark.parametrize("config", configs(), ids=["own", "sdxl"])
def test_a_noised_picture_is_the_schedulers_at_every_step(
    name: str, config: Any, dtype: torch.dtype
) -> None:
    generator = torch.Generator().manual_seed(0)
    original, noise, prediction = torch.randn((3, *SHAPE), generator=generator).to(dtype)
    solver = Solver(name, config, 6, 4)
    latents = solver.start(noise, original)
    for index in range(4):
        noised = solver.noised(original, noise, index)
        at = solver.timestep(index)[None]
        assert torch.equal(noised, solver._scheduler.add_noise(original, noise, at))
        assert noised.dtype == dtype
        assert index == 3 or not torch.equal(noised, original)  # the least may be lost in rounding
        latents = solver.step(prediction, latents, index, generator).latents
    assert torch.equal(solver.noised(original, noise, 4), original)


@pytest.mark.parametrize("name", SCHEDULERS)
def test_image_to_image_runs_the_last_steps(name: str) -> None:
    whole = Solver(name, SDXL_SCHEDULER, 10, 10)
    part = Solver(name, SDXL_SCHEDULER, 10, 4)
    assert [part.timestep(i) for i in range(4)] == [whole.timestep(i) for i in range(6, 10)]


@pytest.mark.parametrize("name", SCHEDULERS)
def test_a_picture_without_noise_is_where_less_strength_starts_nearer_to(name: str) -> None:
    original = torch.ones(SHAPE)
    noise = torch.randn(SHAPE, generator=torch.Generator().manual_seed(0))

    def start(steps: int) -> torch.Tensor:
        solver = Solver(name, SDXL_SCHEDULER, 20, steps)
        return solver.scale_input(solver.start(noise, original), 0)

    distances = [(start(steps) - original).abs().mean() for steps in (2, 8, 14)]
    assert distances == sorted(distances)
    assert distances[0] < 0.4
    assert torch.allclose(start(20), noise, atol=0.2)


@pytest.mark.parametrize("name", SCHEDULERS)
def test_timesteps_stay_on_the_host(name: str) -> None:
    timestep = Solver(name, SDXL_SCHEDULER, 10, 10).timestep(3)
    assert timestep.shape == ()
    assert timestep.device.type == "cpu"
    assert timestep.is_floating_point() or timestep.dtype == torch.int64


@pytest.mark.parametrize("name", ["euler_ancestral", "lcm"])
def test_noise_within_the_steps_is_the_jobs_own(name: str) -> None:
    def step(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)  # the global generator, which must not matter
        solver = Solver(name, SDXL_SCHEDULER, 4, 4)
        generator = torch.Generator().manual_seed(5)
        latents = solver.start(torch.ones(SHAPE), None)
        return solver.step(latents, latents, 0, generator).latents

    with torch.random.fork_rng(devices=[]):
        assert torch.equal(step(1), step(2))
