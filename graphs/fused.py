"""The fused graph: every stage in one replica."""

# No `from __future__ import annotations` here: Serve would then hand `build` a plain dict.

from ray import serve
from ray.serve import Application

from config.settings import AppSettings
from deployments.fused import Fused
from graphs.key_limits import key_limits


def build(settings: AppSettings) -> Application:
    """Replicas, resources and autoscaling of it are in the serve config."""
    return serve.deployment(serve.ingress()(Fused), name="Fused").bind(
        settings, key_limits=key_limits(settings)
    )
