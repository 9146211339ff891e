"""Our schema of serve configs against Ray's own, which is the one that counts."""

import importlib
from typing import Any

import pytest
from pydantic import BaseModel
from ray.runtime_env import RuntimeEnv
from ray.serve import config as ray_config
from ray.serve import schema as ray_schema

from config import serve_schema
from config.settings import AccessSettings, AppSettings

# Ray reads these, and then refuses them in a config of several applications.
REFUSED_BY_RAY = {"host", "port"}
DEPRECATED = {
    "metrics_interval_s",
    "smoothing_factor",
    "upscale_smoothing_factor",
    "downscale_smoothing_factor",
}


@pytest.mark.parametrize(
    ("ours", "rays", "left_out"),
    [
        (serve_schema.ServeConfig, ray_schema.ServeDeploySchema, set()),
        (serve_schema.Application, ray_schema.ServeApplicationSchema, REFUSED_BY_RAY),
        (serve_schema.Deployment, ray_schema.DeploymentSchema, set()),
        (serve_schema.RayActorOptions, ray_schema.RayActorOptionsSchema, set()),
        (serve_schema.HttpOptions, ray_schema.HTTPOptionsSchema, set()),
        (serve_schema.GrpcOptions, ray_schema.gRPCOptionsSchema, set()),
        (serve_schema.ControllerOptions, ray_config.ControllerOptions, set()),
        (serve_schema.LoggingConfig, ray_schema.LoggingConfig, set()),
        (serve_schema.TracingConfig, ray_schema.TracingConfig, set()),
        (serve_schema.AutoscalingConfig, ray_config.AutoscalingConfig, DEPRECATED),
        (serve_schema.AutoscalingPolicy, ray_config.AutoscalingPolicy, set()),
        (serve_schema.RequestRouterConfig, ray_config.RequestRouterConfig, set()),
        (serve_schema.BackpressureConfig, ray_config.BackpressureConfig, set()),
        (serve_schema.GangSchedulingConfig, ray_config.GangSchedulingConfig, set()),
        (serve_schema.DeploymentActorConfig, ray_config.DeploymentActorConfig, set()),
    ],
)
def test_every_level_has_the_keys_that_ray_has(
    ours: type[BaseModel], rays: type[BaseModel], left_out: set[str]
) -> None:
    assert set(ours.model_fields) | left_out == set(rays.model_fields)
    assert not set(ours.model_fields) & left_out


def test_a_runtime_env_has_the_keys_that_ray_has() -> None:
    public = {key for key in RuntimeEnv.known_fields if not key.startswith("_")}
    assert set(serve_schema.RuntimeEnv.model_fields) == public


def test_ray_would_accept_the_misspelt_key_that_we_refuse() -> None:
    """The reason for a schema of our own; when this fails, it may go."""
    deployment = {"name": "Denoiser", "max_ongoing_request": 1}
    ray_schema.DeploymentSchema.model_validate(deployment)
    with pytest.raises(ValueError, match="max_ongoing_request"):
        serve_schema.Deployment.model_validate(deployment)


@pytest.mark.parametrize(("path", "known"), serve_schema.GRAPHS.items())
def test_a_graph_has_the_deployments_that_a_config_may_name(path: str, known: set[str]) -> None:
    module, _, function = path.partition(":")
    build = getattr(importlib.import_module(module), function)
    assert deployments(build(AppSettings())) == known
    # The counting of keys has no options that a config could set, and no process without keys.
    with_keys = AppSettings(access=AccessSettings(keys_file="keys.json"))
    assert deployments(build(with_keys)) == known | {"KeyLimits"}


def deployments(ingress: Any) -> set[str]:
    bound = [ingress, *ingress._bound_deployment.init_kwargs.values()]
    return {one._bound_deployment.name for one in bound if one is not None}
