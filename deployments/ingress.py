"""The HTTP edge: every door, over the stages; in the split graph, over handles of them."""

import logging
from collections.abc import Awaitable, Callable
from importlib.metadata import version

from ray.serve.handle import DeploymentHandle

from config.settings import ROOT, AppSettings, RealtimeSettings
from deployments import handles, http_server
from deployments.access import access_options, refuse_exposure
from deployments.meter import ServeMeter
from deployments.siblings import Siblings, siblings
from glimpse import logs
from glimpse.failover import Failover
from glimpse.families import LATENT_FACTOR
from glimpse.generation import Flow
from glimpse.http.app import AppOptions, create_app
from glimpse.http.places import Places
from glimpse.http.realtime import RealtimeOptions
from glimpse.http.service import Service
from glimpse.key_limits import CountedHere, KeyLimits
from glimpse.latent_rgb import LatentRGB
from glimpse.places import Kind
from glimpse.ports import RoughPreviews, Stages
from glimpse.request import Offer
from glimpse.trials import Trials

logger = logging.getLogger("glimpse.ingress")


class Edge:
    def __init__(
        self,
        settings: AppSettings,
        stages: Stages,
        failover: Failover,
        meter: ServeMeter,
        shared: Siblings | None,
        key_limits: DeploymentHandle | None,
    ) -> None:
        """`meter` is the one of this process; `shared` is what it has in common with other
        ingresses."""
        logs.configure(settings.log_level)
        logger.info("settings: %s", settings.model_dump_json())
        http_server.warn_if_unbounded()
        self._settings = settings
        self._meter = meter
        meter.start_at_zero()
        self._access = access_options(settings.access, _limits(settings, key_limits))
        self._service = Service(
            Flow(
                stages,
                settings.ingress.deadline_s,
                _rough_previews(settings),
                failover,
                meter,
            ),
            _offer(settings),
            pictures=Places(
                settings.ingress.max_pictures,
                Kind.PICTURES,
                shared,
                wait_s=settings.ingress.place_wait_s,
            ),
            sessions=Places(
                settings.realtime.max_sessions,
                Kind.SESSIONS,
                shared,
                wait_s=settings.ingress.place_wait_s,
            ),
            event_log_capacity=settings.ingress.event_log_capacity,
            stage_wait_s=settings.recovery.stage_wait_s,
        )

    async def check_health(self) -> None:
        """Serve sends requests to a replica once this has returned for the first time."""
        await self._service.wait_for_stages()

    def __serve_build_asgi_app__(self) -> Callable[..., Awaitable[None]]:
        ingress = self._settings.ingress
        return create_app(
            self._service,
            AppOptions(
                aliases=ingress.aliases,
                max_body_bytes=ingress.max_body_bytes,
                ping_interval_s=ingress.ping_interval_s,
                realtime=_realtime(self._settings.realtime),
                page=(ROOT / "playground" / "index.html").read_text("utf-8"),
                version=version("glimpse"),
                access=self._access,
                meter=self._meter,
            ),
        )


def _realtime(settings: RealtimeSettings) -> RealtimeOptions:
    return RealtimeOptions(**settings.model_dump(exclude={"max_sessions"}))


def _limits(settings: AppSettings, key_limits: DeploymentHandle | None) -> KeyLimits:
    if key_limits is None:
        return CountedHere(settings.access.lease_s)
    return handles.RayKeyLimits(key_limits, "key_limits")


def _rough_previews(settings: AppSettings) -> RoughPreviews | None:
    colours = settings.model.read_latent_rgb()
    if colours is None:
        return None
    latent_rgb = LatentRGB(colours.factors, colours.bias, LATENT_FACTOR)
    return RoughPreviews(latent_rgb.preview, settings.ingress.preview_limit_s)


class Ingress(Edge):
    def __init__(
        self,
        settings: AppSettings,
        text_encoder: DeploymentHandle,
        denoiser: DeploymentHandle,
        preview_decoder: DeploymentHandle,
        image_codec: DeploymentHandle,
        key_limits: DeploymentHandle | None,
    ) -> None:
        refuse_exposure(settings.access)
        recovery, meter, shared = settings.recovery, ServeMeter(), siblings()
        meter.start()
        watch = handles.Watch(recovery.stall_s, meter)
        super().__init__(
            settings,
            handles.stages(text_encoder, denoiser, preview_decoder, image_codec, watch),
            Failover(
                max_moves=recovery.max_moves,
                checkpoint_every_steps=recovery.checkpoint_every_steps,
                checkpoint_every_s=recovery.checkpoint_every_s,
                trials=Trials(shared),
            ),
            meter,
            shared,
            key_limits,
        )


def _offer(settings: AppSettings) -> Offer:
    model = settings.model
    return Offer(
        default_width=model.width,
        default_height=model.height,
        default_steps=model.num_inference_steps,
        default_guidance_scale=model.guidance_scale,
        default_scheduler=model.scheduler,
        size_multiple=LATENT_FACTOR,
        max_side=model.max_side,
        max_pixels=model.max_pixels,
        max_input_bytes=settings.ingress.max_input_bytes,
        max_input_pixels=settings.ingress.max_input_pixels,
    )
