"""The application's own settings: the `args` of a serve config. Every default lives here."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

# The first part of paths that are, or will be, something else than a fal app.
RESERVED_OWNERS = frozenset(
    {"api", "docs", "health", "queue", "realtime", "stream", "tokens", "v1", "webrtc", "ws"}
)

ROOT = Path(__file__).resolve().parent.parent


class Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ModelSettings(Settings):
    """Which model is served, and what it makes unless asked otherwise."""

    path: str = Field(
        "models/miniature",
        description="A folder (relative ones count from the repository) or a hub's name, with the "
        "parts of a StableDiffusionXLPipeline.",
    )
    variant: str | None = Field(None, description="Of the weight files, such as fp16.")
    revision: str | None = None
    tiny_vae: str = Field(
        "models/miniature/vae_tiny",
        description="The AutoencoderTiny of previews: a folder or a hub's name.",
    )
    tiny_vae_revision: str | None = None
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

    def resolve(self, path: str) -> str:
        """A folder of the repository as an absolute path; anything else as it is."""
        folder = ROOT / path
        return str(folder) if folder.is_dir() else path


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
    threads: int = Field(2, ge=1, description="That torch may use inside one operation, on a CPU.")
    row_budget: int = Field(
        32,
        ge=2,
        description="The most rows of one call of the network; a picture with guidance takes two, "
        "without one. More share a call on a large device; each call takes longer, too.",
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
    max_pictures: int = Field(32, ge=4, description="Made or waiting at once; more: 429.")
    max_body_bytes: int = Field(16 * 2**20, ge=1024)
    max_input_bytes: int = Field(10 * 2**20, ge=1024, description="Of one input picture.")
    deadline_s: float = Field(300, gt=0, description="From accepted to the final picture.")
    ping_interval_s: float = Field(10, gt=0, description="Between comments on a quiet stream.")
    event_log_capacity: int = Field(256, ge=3, description="Events kept of one generation.")


class AppSettings(Settings):
    """Everything `graphs` takes."""

    model: ModelSettings = ModelSettings()
    text_encoder: TextEncoderSettings = TextEncoderSettings()
    denoiser: DenoiserSettings = DenoiserSettings()
    preview_decoder: DecoderSettings = DecoderSettings()
    image_codec: DecoderSettings = DecoderSettings(threads=2)
    ingress: IngressSettings = IngressSettings()
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
