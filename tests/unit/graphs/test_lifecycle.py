"""`graphs.lifecycle`: how the deployments of each config are checked, replaced and drained."""

from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from ray.serve import Application

from config.check import load_serve_config, serve_config_paths
from config.settings import AppSettings, IngressSettings
from glimpse.http.places import Timing
from graphs import fused, text_to_image


def deployments(application: Application) -> Iterator[Any]:
    """Of a graph, each once."""
    bound = application._bound_deployment
    yield bound
    for value in (*bound.init_args, *bound.init_kwargs.values()):
        if isinstance(value, Application):
            yield from deployments(value)


def built(path: Path) -> Iterator[tuple[AppSettings, Any, Any]]:
    """The settings of each application, and each deployment with what its config says of it."""
    for application in load_serve_config(path).applications:
        settings = AppSettings.model_validate(application.args)
        module, builder = application.import_path.split(":")
        configured = {each.name: each for each in application.deployments}
        for bound in deployments(getattr(import_module(module), builder)(settings)):
            yield settings, bound, configured.get(bound.name)


@pytest.mark.parametrize("path", serve_config_paths(), ids=lambda path: path.stem)
def test_no_replica_is_stopped_before_its_last_generation_may_end(path: Path) -> None:
    for settings, bound, configured in built(path):
        if bound.name == "KeyLimits":
            continue
        patience = bound._deployment_config.graceful_shutdown_timeout_s
        if configured is not None and configured.graceful_shutdown_timeout_s is not None:
            patience = configured.graceful_shutdown_timeout_s
        waits = settings.recovery.stage_wait_s + Timing().patience_s + settings.ingress.place_wait_s
        assert patience > waits + settings.ingress.deadline_s + 10, bound.name


@pytest.mark.parametrize("path", serve_config_paths(), ids=lambda path: path.stem)
def test_a_replica_that_hangs_is_replaced_within_half_a_minute(path: Path) -> None:
    for _, bound, _ in built(path):
        config = bound._deployment_config
        assert config.health_check_period_s == 1, bound.name
        if bound.name not in ("Ingress", "Fused", "KeyLimits"):
            assert 3 * (config.health_check_period_s + config.health_check_timeout_s) < 25


@pytest.mark.parametrize("path", serve_config_paths(), ids=lambda path: path.stem)
def test_on_an_update_the_new_replicas_come_first_but_where_each_has_a_gpu(path: Path) -> None:
    for settings, bound, configured in built(path):
        surge = bound._deployment_config.max_surge_percent
        options = configured and configured.ray_actor_options
        has_gpu = bool(options and options.num_gpus)
        assert surge == (0 if has_gpu else 100) or settings.model.device == "cuda", bound.name
        if has_gpu:
            assert surge == 0, bound.name


@pytest.mark.parametrize("build", [fused.build, text_to_image.build])
def test_the_drain_follows_the_deadline(build: Any) -> None:
    settings = AppSettings(ingress=IngressSettings(deadline_s=1000))
    for bound in deployments(build(settings)):
        assert bound._deployment_config.graceful_shutdown_timeout_s > 1000
