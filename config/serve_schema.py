"""What a serve config may say, key by key: Serve's schema (Ray 2.60) without its tolerance.

Serve accepts a misspelt key at any level and goes on with the default. Here every level forbids
unknown keys. A test holds the field names against Ray's, so that neither can drift from the other.
Serve's defaults are not repeated: None means that Serve decides.
"""

from typing import Any, Literal

from pydantic import (
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    ValidationInfo,
    field_validator,
)

from config.exposure import exposure
from config.settings import AppSettings, Settings

# The deployments of each graph, by the names that a serve config knows them by.
DeploymentName = Literal[
    "TextEncoder", "Denoiser", "PreviewDecoder", "ImageCodec", "Ingress", "Fused"
]
GRAPHS: dict[str, frozenset[DeploymentName]] = {
    "graphs.text_to_image:build": frozenset(
        {"TextEncoder", "Denoiser", "PreviewDecoder", "ImageCodec", "Ingress"}
    ),
    "graphs.fused:build": frozenset({"Fused"}),
}


class RuntimeEnv(Settings):
    env_vars: dict[str, str] | None = None
    working_dir: str | None = None
    py_modules: list[str] | None = None
    excludes: list[str] | None = None
    pip: list[str] | dict[str, Any] | str | None = None
    uv: list[str] | dict[str, Any] | str | None = None
    conda: dict[str, Any] | str | None = None
    py_executable: str | None = None
    image_uri: str | None = None
    container: dict[str, Any] | None = None
    java_jars: list[str] | None = None
    worker_process_setup_hook: str | None = None
    config: dict[str, Any] | None = None


class LoggingConfig(Settings):
    encoding: Literal["TEXT", "JSON"] | None = None
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"] | None = None
    logs_dir: str | None = None
    enable_access_log: bool | None = None
    additional_log_standard_attrs: list[str] | None = None


class TracingConfig(Settings):
    enabled: bool | None = None
    exporter_import_path: str | None = None
    sampling_ratio: float | None = Field(default=None, ge=0, le=1)


class HttpOptions(Settings):
    # Required: without it Serve listens on every interface.
    host: str
    port: PositiveInt | None = None
    root_path: str | None = None
    request_timeout_s: float | None = None
    keep_alive_timeout_s: NonNegativeInt | None = None
    ssl_keyfile: str | None = None
    ssl_certfile: str | None = None
    ssl_keyfile_password: str | None = None
    ssl_ca_certs: str | None = None

    @field_validator("request_timeout_s")
    @classmethod
    def _would_cut_streams(cls, value: float | None) -> float | None:
        if value is not None:
            raise ValueError("cuts open streams and sessions; leave it out, deadlines are ours")
        return value


class GrpcOptions(Settings):
    port: PositiveInt | None = None
    grpc_servicer_functions: list[str] | None = None
    request_timeout_s: float | None = None
    enable_reflection: bool | None = None


class ControllerOptions(Settings):
    runtime_env: RuntimeEnv | None = None


class RayActorOptions(Settings):
    runtime_env: RuntimeEnv | None = None
    num_cpus: NonNegativeFloat | None = None
    num_gpus: NonNegativeFloat | None = None
    memory: NonNegativeFloat | None = None
    resources: dict[str, float] | None = None
    accelerator_type: str | None = None
    label_selector: dict[str, str] | None = None
    fallback_strategy: list[dict[str, Any]] | None = None


class AutoscalingPolicy(Settings):
    policy_function: str | None = None
    policy_kwargs: dict[str, Any] | None = None


class AutoscalingConfig(Settings):
    min_replicas: NonNegativeInt | None = None
    initial_replicas: NonNegativeInt | None = None
    max_replicas: PositiveInt | None = None
    target_ongoing_requests: PositiveFloat | None = None
    look_back_period_s: PositiveFloat | None = None
    upscaling_factor: PositiveFloat | None = None
    downscaling_factor: PositiveFloat | None = None
    upscale_delay_s: NonNegativeFloat | None = None
    downscale_delay_s: NonNegativeFloat | None = None
    downscale_to_zero_delay_s: NonNegativeFloat | None = None
    aggregation_function: Literal["mean", "max", "min"] | None = None
    policy: AutoscalingPolicy | None = None


class BackpressureConfig(Settings):
    status_code: Literal[503, 429] | None = None
    retry_after_s: NonNegativeFloat | None = None


class RequestRouterConfig(Settings):
    request_router_class: str | None = None
    request_router_kwargs: dict[str, Any] | None = None
    request_routing_stats_period_s: PositiveFloat | None = None
    request_routing_stats_timeout_s: PositiveFloat | None = None
    initial_backoff_s: PositiveFloat | None = None
    backoff_multiplier: PositiveFloat | None = None
    max_backoff_s: PositiveFloat | None = None


class GangSchedulingConfig(Settings):
    gang_size: PositiveInt
    gang_placement_strategy: Literal["PACK", "SPREAD"] | None = None
    runtime_failure_policy: Literal["RESTART_GANG"] | None = None


class DeploymentActorConfig(Settings):
    name: str
    actor_class: str
    init_args: list[Any] | None = None
    init_kwargs: dict[str, Any] | None = None
    actor_options: dict[str, Any] | None = None


class Deployment(Settings):
    name: DeploymentName
    num_replicas: PositiveInt | Literal["auto"] | None = None
    max_ongoing_requests: PositiveInt | None = None
    max_queued_requests: int | None = Field(default=None, ge=-1)
    backpressure_config: BackpressureConfig | None = None
    user_config: dict[str, Any] | None = None
    autoscaling_config: AutoscalingConfig | None = None
    graceful_shutdown_wait_loop_s: NonNegativeFloat | None = None
    graceful_shutdown_timeout_s: NonNegativeFloat | None = None
    health_check_period_s: PositiveFloat | None = None
    health_check_timeout_s: PositiveFloat | None = None
    ray_actor_options: RayActorOptions | None = None
    placement_group_bundles: list[dict[str, float]] | None = None
    placement_group_strategy: str | None = None
    placement_group_bundle_label_selector: list[dict[str, str]] | None = None
    max_replicas_per_node: PositiveInt | None = None
    logging_config: LoggingConfig | None = None
    request_router_config: RequestRouterConfig | None = None
    gang_scheduling_config: GangSchedulingConfig | None = None
    deployment_actors: list[DeploymentActorConfig] | None = None
    rolling_update_percentage: float | None = Field(default=None, gt=0, le=1)
    max_surge_percent: int | None = Field(default=None, ge=0, le=100)


class Application(Settings):
    name: str
    route_prefix: str | None = None
    import_path: Literal["graphs.text_to_image:build", "graphs.fused:build"]
    args: AppSettings = Field(default_factory=AppSettings)
    runtime_env: RuntimeEnv | None = None
    deployments: list[Deployment] = Field(default_factory=list)
    autoscaling_policy: AutoscalingPolicy | None = None
    logging_config: LoggingConfig | None = None
    external_scaler_enabled: bool | None = None

    @field_validator("deployments")
    @classmethod
    def _of_the_graph(cls, value: list[Deployment], info: ValidationInfo) -> list[Deployment]:
        graph = info.data.get("import_path")  # absent where it is wrong itself
        for deployment in value:
            if graph is not None and deployment.name not in GRAPHS[graph]:
                names = ", ".join(sorted(GRAPHS[graph]))
                raise ValueError(f"{graph} has no '{deployment.name}'; it has {names}")
        return value

    @field_validator("deployments")
    @classmethod
    def _room_for_an_update(cls, value: list[Deployment], info: ValidationInfo) -> list[Deployment]:
        """As `graphs.lifecycle` decides where nothing is said."""
        args = info.data.get("args")  # absent where they are wrong themselves
        for deployment in value:
            on_gpu = deployment.ray_actor_options and deployment.ray_actor_options.num_gpus
            starts_first = deployment.max_surge_percent is None and deployment.name != "Ingress"
            if args is not None and on_gpu and starts_first and args.model.device != "cuda":
                raise ValueError(
                    f"an update of '{deployment.name}' would wait for a second GPU; set "
                    "args.model.device to cuda, or its max_surge_percent"
                )
        return value


class ServeConfig(Settings):
    proxy_location: Literal["Disabled", "HeadOnly", "EveryNode"] | None = None
    http_options: HttpOptions
    grpc_options: GrpcOptions | None = None
    controller_options: ControllerOptions | None = None
    logging_config: LoggingConfig | None = None
    tracing_config: TracingConfig | None = None
    applications: list[Application] = Field(min_length=1)
    target_capacity: float | None = Field(default=None, ge=0, le=100)

    @field_validator("applications")
    @classmethod
    def _not_open_to_everybody(
        cls, value: list[Application], info: ValidationInfo
    ) -> list[Application]:
        http = info.data.get("http_options")  # absent where it is wrong itself
        for application in value:
            problem = http and exposure(http.host, application.args.access)
            if problem:
                raise ValueError(problem)
        return value
