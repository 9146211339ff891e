"""SDXL over diffusers: its two text encoders, and its network at a timestep per row."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from glimpse.engine.job import Posterior, Rows
from glimpse.families import LATENT_FACTOR
from glimpse.families.conditioning import Conditioning, EncodedImage, TextEmbedding
from glimpse.tensors import from_array, to_array


@dataclass(frozen=True, slots=True)
class ModelSource:
    """Where weights are, a folder or a hub's name, and how to hold them."""

    path: str
    variant: str | None
    revision: str | None
    dtype: torch.dtype
    device: torch.device

    @classmethod
    def of(
        cls, path: str, *, variant: str | None, revision: str | None, dtype: str, device: str
    ) -> "ModelSource":
        """From names; the device `auto` is cuda where this process has one."""
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        return cls(path, variant, revision, getattr(torch, dtype), torch.device(device))

    def part(self, loader: Any, subfolder: str | None) -> Any:
        """A part of a pipeline, ready to run: `loader` is a class of diffusers or transformers."""
        options: dict[str, Any] = {"variant": self.variant, "revision": self.revision}
        if subfolder is not None:
            options["subfolder"] = subfolder
        module = loader.from_pretrained(self.path, dtype=self.dtype, **options)
        return module.to(self.device).eval()


class SDXLTextEncoder:
    """CLIP ViT-L and OpenCLIP bigG, as in `StableDiffusionXLPipeline.encode_prompt`.

    Counts what it has encoded: `texts`, in so many `calls`.
    """

    def __init__(self, source: ModelSource) -> None:
        from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

        self.texts = self.calls = 0
        options = {"revision": source.revision}
        self._device = source.device
        self._tokenizers = [
            CLIPTokenizer.from_pretrained(source.path, subfolder=folder, **options)
            for folder in ("tokenizer", "tokenizer_2")
        ]
        self._encoders = [
            source.part(CLIPTextModel, "text_encoder"),
            source.part(CLIPTextModelWithProjection, "text_encoder_2"),
        ]

    def encode(self, texts: Sequence[str]) -> list[TextEmbedding]:
        """Embeddings of each text: the encoders' penultimate states joined, [77, D1 + D2], and the
        second encoder's pooled one. Text past 77 tokens is cut off.
        """
        self.texts += len(texts)
        self.calls += 1
        hidden, pooled = [], torch.empty(0)
        for tokenizer, encoder in zip(self._tokenizers, self._encoders, strict=True):
            tokens = tokenizer(
                list(texts),
                padding="max_length",
                max_length=tokenizer.model_max_length,
                truncation=True,
                return_tensors="pt",
            )
            output = encoder(tokens.input_ids.to(self._device), output_hidden_states=True)
            hidden.append(output.hidden_states[-2])
            pooled = output[0]  # of the second encoder in the end: the only one that projects
        joined = torch.cat(hidden, dim=-1)
        return [  # copies: a view would keep the whole batch for as long as one text is cached
            TextEmbedding(to_array(tokens.clone()), to_array(pool.clone()))
            for tokens, pool in zip(joined, pooled, strict=True)
        ]


class SDXLNetwork:
    """`UNet2DConditionModel` with SDXL's added conditions: a `glimpse.engine.job.Network`."""

    def __init__(self, source: ModelSource) -> None:
        from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
        from diffusers.schedulers.scheduling_euler_discrete import EulerDiscreteScheduler

        self.device = source.device
        self.dtype = source.dtype
        self._unet = source.part(UNet2DConditionModel, "unet")
        self.latent_channels: int = self._unet.config.in_channels
        self.latent_factor = LATENT_FACTOR
        # Pooled embeddings and six time ids together fill the projection's input.
        config = self._unet.config
        self._pooled: int = (
            config.projection_class_embeddings_input_dim - 6 * config.addition_time_embed_dim
        )
        self.scheduler_config: Mapping[str, Any] = EulerDiscreteScheduler.load_config(
            source.path, subfolder="scheduler", revision=source.revision
        )

    def warm_up(self, width: int, height: int) -> None:
        """The first calls of a process are slow; they are not left to the first job."""
        tokens, pooled = self._unet.config.cross_attention_dim, self._pooled
        empty = Conditioning(
            TextEmbedding(np.zeros((77, tokens), np.float32), np.zeros(pooled, np.float32)), None
        )
        for guided in (False, True):
            rows = self.rows(empty, guided, width, height)
            size = (height // self.latent_factor, width // self.latent_factor)
            latents = torch.zeros(len(rows), self.latent_channels, *size)
            self.predict(latents.to(self.device, self.dtype), torch.zeros(len(rows)), rows)

    def rows(self, conditioning: Conditioning, guided: bool, width: int, height: int) -> Rows:
        def stacked(prompt: Any, negative: Any) -> torch.Tensor:
            tensor = from_array(prompt, self.device, self.dtype)[None]
            if not guided:
                return tensor
            if negative is None:
                return torch.cat([torch.zeros_like(tensor), tensor])
            return torch.cat([from_array(negative, self.device, self.dtype)[None], tensor])

        prompt, negative = conditioning.prompt, conditioning.negative
        # Original size, crop's corner, target size: nothing was cropped.
        time_ids = torch.tensor([[height, width, 0, 0, height, width]], dtype=self.dtype)
        return Rows(
            tokens=stacked(prompt.tokens, negative and negative.tokens),
            pooled=stacked(prompt.pooled, negative and negative.pooled),
            time_ids=time_ids.to(self.device).repeat(2 if guided else 1, 1),
        )

    def posterior(self, image: EncodedImage) -> Posterior:
        return Posterior(
            from_array(image.mean, self.device, torch.float32)[None],
            from_array(image.std, self.device, torch.float32)[None],
            image.scale,
        )

    def predict(self, latents: torch.Tensor, timesteps: torch.Tensor, rows: Rows) -> torch.Tensor:
        """Latents [rows, C, h, w], a timestep for each row -> noise or velocity, as latents."""
        prediction: torch.Tensor = self._unet(
            latents,
            timesteps.to(self.device),
            encoder_hidden_states=rows.tokens,
            added_cond_kwargs={"text_embeds": rows.pooled, "time_ids": rows.time_ids},
            return_dict=False,
        )[0]
        return prediction
