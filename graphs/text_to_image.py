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
from graphs.key_limits import key_limits

BY_SESSION = RequestRouterConfig(
    request_router_class="deployments.session_router.SessionRouter",
    request_router_kwargs={"num_fallback_replicas": 2},  # asked next where the first is full
)


def build(settings: AppSettings) -> Application:
    """Replicas, resources and autoscaling of each are in the serve config, by deployment name."""
    return serve.deployment(serve.ingress()(Ingress), name="Ingress").bind(
        settings,
        text_encoder=serve.deployment(TextEncoder).bind(settings),
        denoiser=serve.deployment(Denoiser, request_router_config=BY_SESSION).bind(settings),
        preview_decoder=serve.deployment(PreviewDecoder).bind(settings),
        image_codec=serve.deployment(ImageCodec).bind(settings),
        key_limits=key_limits(settings),
    )
