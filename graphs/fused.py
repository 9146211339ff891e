"""The fused graph: every stage in one replica."""

# No `from __future__ import annotations` here: Serve would then hand `build` a plain dict.

from ray import serve
from ray.serve import Application

from config.settings import AppSettings
from deployments.fused import Fused
from graphs import lifecycle
from graphs.key_limits import key_limits


def build(settings: AppSettings) -> Application:
    """Replicas, resources and autoscaling of it are in the serve config."""
    options = lifecycle.of_edges(settings) | {
        "max_surge_percent": lifecycle.of_stages(settings)["max_surge_percent"]
    }
    return serve.deployment(serve.ingress()(Fused), name="Fused", **options).bind(
        settings, key_limits=key_limits(settings)
    )
