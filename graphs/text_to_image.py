"""The split graph: every stage a deployment of its own."""

# No `from __future__ import annotations` here: Serve would then hand `build` a plain dict.

from ray import serve
from ray.serve import Application
from ray.serve.config import RequestRouterConfig

from config.settings import AppSettings
from deployments.denoiser import Denoiser
from deployments.image_codec import ImageCodec
from deployments.ingress import Ingress
from deployments.preview_decoder import PreviewDecoder
from deployments.text_encoder import TextEncoder
from graphs import lifecycle
from graphs.key_limits import key_limits

ROUTER = RequestRouterConfig(
    request_router_class="deployments.stage_router.StageRouter",
    request_router_kwargs={"num_fallback_replicas": 2},  # asked next where the first is full
)


def build(settings: AppSettings) -> Application:
    """Replicas, resources and autoscaling of each are in the serve config, by deployment name."""
    stage = {"request_router_config": ROUTER, **lifecycle.of_stages(settings)}
    edge = lifecycle.of_edges(settings)
    return serve.deployment(serve.ingress()(Ingress), name="Ingress", **edge).bind(
        settings,
        text_encoder=serve.deployment(TextEncoder, **stage).bind(settings),
        denoiser=serve.deployment(Denoiser, **stage).bind(settings),
        preview_decoder=serve.deployment(PreviewDecoder, **stage).bind(settings),
        image_codec=serve.deployment(ImageCodec, **stage).bind(settings),
        key_limits=key_limits(settings),
    )
