"""The application's own settings: the `args` of a serve config. Every default lives here."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    FiniteFloat,
    StringConstraints,
    model_validator,
)

# The first part of paths that are, or will be, something else than a fal app.
RESERVED_OWNERS = frozenset(
    {
        "api",
        "docs",
        "health",
        "queue",
        "realtime",
        "rest",
        "stream",
        "tokens",
        "v1",
        "webrtc",
        "ws",
    }
)

ROOT = Path(__file__).resolve().parent.parent


class Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


Colour = tuple[FiniteFloat, FiniteFloat, FiniteFloat]


class LatentRGBFile(Settings):
    """What is in a file that `model.latent_rgb` names.

    The mean colour (red, green, blue, in -1 to 1) of the pixels of a latent is `latent @ factors +
    bias`, the latent as the network sees it: scaled by the VAE's `scaling_factor`.
    """

    source: str = Field(description="Where the numbers are from.")
    factors: tuple[Colour, Colour, Colour, Colour] = Field(
        description="For each channel of a latent; the models served here have four."
    )
    bias: Colour


MINIATURE = "models/miniature"


class ModelSettings(Settings):
    """Which model is served, and what it makes unless asked otherwise."""

    path: str = Field(
        MINIATURE,
        description="A folder (relative ones count from the repository) or a hub's name, with the "
        "parts of a StableDiffusionXLPipeline.",
    )
    variant: str | None = Field(None, description="Of the weight files, such as fp16.")
    revision: str | None = Field(
        None,
        min_length=1,
        description="The commit, branch or tag of a hub's repository; a folder has none. A commit "
        "pins the weights (docs/operating.md).",
    )
    vae: str | None = Field(
        None,
        min_length=1,
        description="An AutoencoderKL for the model's latents, in place of the model's own: a "
        "folder or a hub's name.",
    )
    vae_revision: str | None = Field(
        None,
        min_length=1,
        description="As revision, for the VAE. Left out: the model's own VAE has the model's "
        "revision.",
    )
    tiny_vae: str = Field(
        f"{MINIATURE}/vae_tiny",
        description="The AutoencoderTiny of previews: a folder or a hub's name.",
    )
    tiny_vae_revision: str | None = Field(
        None, min_length=1, description="As revision, for tiny_vae."
    )
    latent_rgb: str | None = Field(
        None,
        description="A JSON file (LatentRGBFile; a relative path counts from the repository) with "
        "the linear map from latents to colours, for rough previews. Left out: the built-in model "
        "has its own; of another model late previews are dropped.",
    )
    dtype: Literal["float32", "float16", "bfloat16"] = "float32"
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="auto: cuda where the replica has one."
    )
    width: int = Field(128, ge=32, description="Pixels, where a request gives no size.")
    height: int = Field(128, ge=32)
    num_inference_steps: int = Field(20, ge=1, le=100)
    guidance_scale: float = Field(4.5, ge=0, le=20)
    scheduler: Literal["euler", "euler_ancestral", "dpmpp_2m", "ddim", "unipc", "lcm"] = "euler"
    max_side: int = Field(256, ge=32, description="Pixels; larger requests are refused.")
    max_pixels: int = Field(256 * 256, ge=32 * 32, description="Of width times height.")

    @model_validator(mode="after")
    def _folders_have_no_revisions(self) -> "ModelSettings":
        for path, revision in (self.of_model, self.of_vae, self.of_tiny_vae):
            self.resolve(path, revision)
        return self

    @property
    def of_model(self) -> tuple[str, str | None]:
        """Path and revision of all but the VAEs, as those of the VAEs below."""
        return self.path, self.revision

    @property
    def of_vae(self) -> tuple[str, str | None]:
        own = self.revision if self.vae is None else None
        return self.vae or self.path, self.vae_revision or own

    @property
    def of_tiny_vae(self) -> tuple[str, str | None]:
        return self.tiny_vae, self.tiny_vae_revision

    def resolve(self, path: str, revision: str | None = None) -> str:
        """A folder of the repository as an absolute path; anything else as it is.

        Raises `ValueError` for a folder with a revision, which would be ignored.
        """
        folder = ROOT / path
        if not folder.is_dir():
            return path
        if revision is not None:
            raise ValueError(
                f"{path} is a folder, which has no revisions; leave revision {revision} out"
            )
        return str(folder)

    def read_latent_rgb(self) -> LatentRGBFile | None:
        """What `latent_rgb` names. Raises `OSError`, or `ValueError` where the file is wrong."""
        path = self.latent_rgb
        # Not a plain default: another model's colours would be wrong, and rarely seen.
        if path is None and self.path == MINIATURE:
            path = f"{MINIATURE}/latent_rgb.json"
        return LatentRGBFile.model_validate_json((ROOT / path).read_bytes()) if path else None


class StageSettings(Settings):
    threads: int = Field(
        1,
        ge=1,
        description="That torch may use inside one operation, on a CPU. The fused graph has one "
        "torch thread for every stage, with the denoiser's.",
    )


class TextEncoderSettings(StageSettings):
    cache_size: int = Field(1024, ge=1, description="Texts whose embeddings are kept.")
    max_batch_size: int = Field(16, ge=1, description="Texts encoded in one call.")
    batch_wait_s: float = Field(
        0.002,
        ge=0,
        description="Waited for others to join a batch. In the fused graph they join while the "
        "torch thread is busy, and nobody waits for more.",
    )


class DenoiserSettings(StageSettings):
    threads: int = Field(
        2,
        ge=1,
        description="Of torch, on a CPU: for one operation, or where there are rows enough for a "
        "part of the rows each.",
    )
    traced: bool = Field(
        True,
        description="On a CPU: run the network without Python, by torch.jit, which is deprecated. "
        "A quarter faster for one picture, and the same picture to the bit; false is for a torch "
        "that has it no more.",
    )
    row_budget: int | None = Field(
        None,
        ge=2,
        description="The most rows of one call of the network; a picture with guidance takes two, "
        "without one. None: as many as a GPU has memory for at the largest size, 32 at most.",
    )
    channels_last: bool = Field(
        False,
        description="Memory layout; try it on a GPU in half precision, as convolutions like it.",
    )
    compiled: bool = Field(
        False,
        description="torch.compile of the transformer blocks: minutes at the first calls, for "
        "steps that are a good part faster on a GPU. Not with replicas that come and go.",
    )
    cuda_graphs: bool = Field(
        False,
        description="Replay recorded calls, with rows padded up to 1, 2, 4, 8 or 16: for a small "
        "model on a fast GPU, whose kernels end sooner than the host starts them.",
    )
    attention_backend: str | None = Field(
        None,
        description="Of diffusers (flash, sage, xformers, ...), where its library is installed; "
        "None is torch's own, which picks a fused kernel by itself.",
    )


class DecoderSettings(StageSettings):
    channels_last: bool = Field(True, description="Memory layout; faster for decoders.")
    max_batch_pixels: int = Field(
        8 * 128 * 128,
        ge=1,
        description="Of the pictures of one size that are decoded in one call; one always is. It "
        "bounds the call's memory, and in the fused graph what a step waits for.",
    )


def _not_reserved(alias: str) -> str:
    owner = alias.partition("/")[0]
    if owner in RESERVED_OWNERS:
        raise ValueError(f"{owner} is a route of the server's own, and cannot be an owner")
    return alias


Alias = Annotated[
    str, StringConstraints(pattern=r"^[\w.-]+/[\w.-]+$"), AfterValidator(_not_reserved)
]


class IngressSettings(Settings):
    aliases: tuple[Alias, ...] = Field(
        ("glimpse/miniature",), description="fal app ids, owner/alias, this application answers to."
    )
    max_pictures: int = Field(
        32,
        ge=4,
        description="Maximum number of pictures in progress or queued, of all ingress replicas "
        "together. Further requests wait for a place or get HTTP 429 (place_wait_s).",
    )
    place_wait_s: float = Field(
        10,
        ge=0,
        description="Maximum wait of a request or a session for a place, where all are taken and "
        "its owner (a key, or without keys a connection) has fewer than an equal share of them. "
        "Others get HTTP 429 at once.",
    )
    max_body_bytes: int = Field(16 * 2**20, ge=1024)
    max_input_bytes: int = Field(10 * 2**20, ge=1024, description="Of one input picture.")
    max_input_pixels: int = Field(
        16 * 2**20,
        ge=2**16,
        description="Maximum number of pixels of an input picture in PNG, WebP, AVIF or HEIC. "
        "docs/security.md has the memory that reading takes. A JPEG may have 100 Mi, because it is "
        "read at a fraction of its size.",
    )
    deadline_s: float = Field(300, gt=0, description="From accepted to the final picture.")
    preview_limit_s: float = Field(
        1,
        gt=0,
        description="That the decoding of a preview may take before a rough one is shown; where "
        "there are none (model.latent_rgb) it has no limit.",
    )
    ping_interval_s: float = Field(10, gt=0, description="Between comments on a quiet stream.")
    event_log_capacity: int = Field(256, ge=3, description="Events kept of one generation.")


class RecoverySettings(Settings):
    """How work outlives the process it is in (docs/reliability.md). Times in seconds."""

    max_moves: int = Field(
        2,
        ge=0,
        description="Maximum number of times that a picture goes to another replica of a stage "
        "after one was lost. The second time it is tried alone, and fails if that replica is lost "
        "too. 0: a lost replica fails its pictures.",
    )
    checkpoint_every_steps: int = Field(
        5,
        ge=1,
        description="Maximum number of steps between two checkpoints of a picture; steps with a "
        "preview have one as well. A picture with no more steps than this has none: it is made "
        "again. The fused graph has none, as there is no other process to go on in.",
    )
    checkpoint_every_s: float = Field(
        2, gt=0, description="Maximum time between two checkpoints, where steps are slow."
    )
    stage_wait_s: float = Field(
        30,
        gt=0,
        description="Maximum wait of a new request for a stage that has no replica just now, "
        "before HTTP 503. A picture that has begun waits until ingress.deadline_s.",
    )
    stall_s: float = Field(
        5,
        ge=5,
        description="A replica that has work and makes no progress for so long, or for 20 times "
        "its median tick where that is longer, has stalled: it is replaced, and its work goes to "
        "another one.",
    )
    loading_s: float = Field(
        900, gt=0, description="Maximum time for loading a model, before the replica is replaced."
    )
    compiling_s: float = Field(
        900, gt=0, description="Maximum time for a call of the network that compiles."
    )
    recording_s: float = Field(120, gt=0, description="Maximum time for recording a CUDA graph.")
    first_call_s: float = Field(
        120, gt=0, description="Maximum time for the first call of a model with a new size."
    )


class RealtimeSettings(Settings):
    """Of a session: one WebSocket of /realtime or /ws."""

    num_inference_steps: int = Field(
        4, ge=1, le=100, description="Unless a message says otherwise: speed counts here."
    )
    max_sessions: int = Field(
        64,
        ge=1,
        description="Maximum number of open sessions, of all ingress replicas together. Each makes "
        "one picture at a time, which does not count in ingress.max_pictures.",
    )
    max_buffering: int = Field(
        8, ge=1, le=60, description="Messages that wait, where the client does not say how many."
    )
    max_waiting_bytes: int = Field(
        32 * 2**20, ge=0, description="Of the input pictures of messages that wait."
    )
    idle_timeout_s: float = Field(300, gt=0, description="Without a message; then it is closed.")
    max_frame_bytes: int = Field(
        15 * 2**20, ge=1024, description="Of one message. Serve's proxy drops what is over 16 MiB."
    )
    messages_per_s: float = Field(
        120, gt=0, le=480, description="A session's; as many may come at once. More are refused."
    )
    max_input_bytes_per_s: float = Field(
        16 * 2**20,
        ge=1024,
        le=32 * 2**20,
        description="A session's, four times as many at once. Serve's own proxy keeps in memory "
        "what a client sends until we have read it.",
    )
    max_unsent: int = Field(
        8, ge=1, description="Results that wait for the client to read; then the oldest are left."
    )
    max_output_bytes: int = Field(
        64 * 2**20,
        ge=2**20,
        description="In output_window_s. Serve keeps in memory what a client does not read: this "
        "bounds it. As config/profiles/realtime.yaml is run, sending waits for the client, and it "
        "may be as large as you like.",
    )
    output_window_s: float = Field(
        40, gt=0, description="What Serve's proxy takes to find that a client is gone."
    )


LOOPBACK_NAMES = ("localhost", "127.0.0.1", "::1")
LOOPBACK_ORIGINS = tuple(
    f"{scheme}://{name}:*"
    for scheme in ("http", "https")
    for name in ("localhost", "127.0.0.1", "[::1]")
)

Host = Annotated[str, StringConstraints(pattern=r"^(\*|[\w.:-]+)$")]
Origin = Annotated[
    str, StringConstraints(pattern=r"^(\*|null|[a-z][a-z0-9+.-]*://[\w.\[\]:-]+?(:\*)?)$")
]


def _off(value: object) -> object:
    """YAML 1.1 reads the word `off` as false."""
    return "off" if value is False else value


class AccessSettings(Settings):
    """Who may use the server. It alone decides whether a key is due, never where a client is:
    behind a proxy everybody is next door."""

    keys_file: str | None = Field(
        None,
        description="Of `python -m config.keys`; a relative path counts from the repository. "
        "Where it is set, every request needs a key of it. Changes count at once.",
    )
    allow_anonymous: bool = Field(
        False, description="Without keys, listen on more than loopback all the same."
    )
    ray_token: Annotated[Literal["required", "off"] | None, BeforeValidator(_off)] = Field(
        None,
        description="required: do not start where Ray's own ports ask for no token, because "
        "whoever reaches them can run code. off: start all the same. Left out: required where "
        "keys are due or http_options.host is not a loopback address.",
    )
    allowed_hosts: tuple[Host, ...] | None = Field(
        None,
        description="Names (without a port) that clients may call the server by, or `*`. Left out: "
        "any with keys, without them those of loopback.",
    )
    allowed_origins: tuple[Origin, ...] | None = Field(
        None,
        description="Web pages' origins that may use the server besides its own page: "
        "`https://a.example`, `http://localhost:*` for any port, or `*`. Left out: any with keys, "
        "without them those of loopback.",
    )
    requests_per_minute: int = Field(
        600, ge=1, description="Of one key, in total; a session is one. A key can have its own."
    )
    concurrent_requests: int = Field(16, ge=1, description="Of one key, open at once.")
    sessions: int = Field(16, ge=1, description="WebSockets of one key, open at once.")
    pictures: int = Field(
        24,
        ge=1,
        description="Maximum number of pictures of one key that are in progress or queued, but for "
        "those of sessions. Less than ingress.max_pictures, so that no key takes every place.",
    )
    lease_s: float = Field(
        30, ge=1, description="After which what a dead ingress had open is no longer counted."
    )
    limits_patience_s: float = Field(
        2, gt=0, description="Waited for the counting, before a client is sent away with a 503."
    )

    @model_validator(mode="after")
    def _one_or_the_other(self) -> "AccessSettings":
        if self.keys_file is not None and self.allow_anonymous:
            raise ValueError("allow_anonymous has no meaning beside keys_file; leave one out")
        return self

    @property
    def hosts(self) -> tuple[str, ...]:
        return self._or_default(self.allowed_hosts, LOOPBACK_NAMES)

    @property
    def origins(self) -> tuple[str, ...]:
        return self._or_default(self.allowed_origins, LOOPBACK_ORIGINS)

    def _or_default(
        self, chosen: tuple[str, ...] | None, loopback: tuple[str, ...]
    ) -> tuple[str, ...]:
        """Keys protect by themselves, as browsers send none of their own accord."""
        if chosen is not None:
            return chosen
        return loopback if self.keys_file is None else ("*",)


class AppSettings(Settings):
    """Everything `graphs` takes."""

    model: ModelSettings = ModelSettings()
    text_encoder: TextEncoderSettings = TextEncoderSettings()
    denoiser: DenoiserSettings = DenoiserSettings()
    preview_decoder: DecoderSettings = DecoderSettings()
    image_codec: DecoderSettings = DecoderSettings()
    ingress: IngressSettings = IngressSettings()
    realtime: RealtimeSettings = RealtimeSettings()
    recovery: RecoverySettings = RecoverySettings()
    access: AccessSettings = AccessSettings()
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
