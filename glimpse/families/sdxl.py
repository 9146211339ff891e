"""SDXL over diffusers: its two text encoders, and its network at a timestep per row."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from diffusers.models.attention_dispatch import AttentionBackendName

from glimpse.engine.job import Posterior, Rows
from glimpse.families import LATENT_FACTOR
from glimpse.families.attention import TextLayers
from glimpse.families.conditioning import Conditioning, EncodedImage, TextEmbedding
from glimpse.families.cuda_graphs import Call, CudaGraphs
from glimpse.families.row_shards import RowShards
from glimpse.families.source import ModelSource
from glimpse.families.traced import Traced
from glimpse.tensors import from_array, to_array
from glimpse.watch import Calls


class SDXLTextEncoder:
    """CLIP ViT-L and OpenCLIP bigG, as in `StableDiffusionXLPipeline.encode_prompt`.

    Counts what it has encoded: `texts`, in so many `calls`.
    """

    def __init__(self, source: ModelSource) -> None:
        from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

        self.texts = self.calls = 0
        self._shapes = Calls()
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
        second encoder's pooled one. Text past 77 tokens is cut off, and the tokens cut are counted.
        """
        self.texts += len(texts)
        self.calls += 1
        with self._shapes.of(len(texts)):
            joined, pooled = self._encode(texts)
        return [  # copies: a view would keep the whole batch for as long as one text is cached
            TextEmbedding(to_array(tokens.clone()), to_array(pool.clone()), self._cut(text))
            for text, tokens, pool in zip(texts, joined, pooled, strict=True)
        ]

    def _cut(self, text: str) -> int:
        """The most tokens of a text that one of the encoders does not read."""
        cut = 0
        for tokenizer in self._tokenizers:
            tokens: list[int] = tokenizer(text, verbose=False).input_ids
            cut = max(cut, len(tokens) - tokenizer.model_max_length)
        return cut

    def _encode(self, texts: Sequence[str]) -> tuple[torch.Tensor, torch.Tensor]:
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
        return torch.cat(hidden, dim=-1), pooled


@dataclass(frozen=True, slots=True)
class Tuning:
    """What makes the network faster on some devices; none of it is meant to change pictures.

    `threads` is what torch has on a CPU. `attention_backend` is a name of diffusers'
    `AttentionBackendName`; None is torch's own attention.
    """

    threads: int = 1
    traced: bool = False
    channels_last: bool = False
    compiled: bool = False
    cuda_graphs: bool = False
    attention_backend: str | None = None


class SDXLNetwork:
    """`UNet2DConditionModel` with SDXL's added conditions: a `glimpse.engine.job.Network`."""

    def __init__(self, source: ModelSource, tuning: Tuning | None = None) -> None:
        """Raises `ValueError` for a tuning that the device does not have."""
        from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
        from diffusers.schedulers.scheduling_euler_discrete import EulerDiscreteScheduler

        self.device = source.device
        self.dtype = source.dtype
        self._unet = source.part(UNet2DConditionModel, "unet")
        tuning = tuning or Tuning()
        self._calls = Calls("compiling" if tuning.compiled else "first call")
        backend = tuning.attention_backend
        self._text_layers = TextLayers(self._unet, backend and AttentionBackendName(backend))
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
        self._call = self._tuned(tuning)

    def _tuned(self, tuning: Tuning) -> Call:
        if tuning.cuda_graphs and self.device.type != "cuda":
            raise ValueError("cuda_graphs needs a device that is cuda")
        if tuning.channels_last:
            self._unet.to(memory_format=torch.channels_last)
        if tuning.compiled:
            self._unet.compile_repeated_blocks(dynamic=True)  # one code for every count of rows
        call: Call = self._forward
        if tuning.cuda_graphs:
            return CudaGraphs(call)
        if self.device.type == "cpu":
            if tuning.traced:
                multiple: int = 2**self._unet.num_upsamplers
                side = self.latent_factor * multiple
                call = Traced(call, self.blank(2, side, side), self._unet, multiple)
            if tuning.threads > 1:
                call = RowShards(call, tuning.threads)
        return call

    def warm_up(self, width: int, height: int) -> None:
        """The first calls of a process are slow; they are not left to the first job."""
        for rows in (1, 2):
            self.run_blank(rows, width, height)

    def run_blank(self, rows: int, width: int, height: int) -> None:
        """One call with so many rows of a size in pixels, on zeros."""
        self.predict(*self.blank(rows, width, height))

    def blank(self, rows: int, width: int, height: int) -> tuple[torch.Tensor, torch.Tensor, Rows]:
        tokens, pooled = self._unet.config.cross_attention_dim, self._pooled
        empty = Conditioning(
            TextEmbedding(np.zeros((77, tokens), np.float32), np.zeros(pooled, np.float32)), None
        )
        one = self.rows(empty, False, width, height)
        size = (height // self.latent_factor, width // self.latent_factor)
        return (
            torch.zeros(rows, self.latent_channels, *size, device=self.device, dtype=self.dtype),
            torch.zeros(rows),
            Rows(tuple(tensor.repeat(rows, *[1] * (tensor.ndim - 1)) for tensor in one.tensors)),
        )

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
            (
                stacked(prompt.pooled, negative and negative.pooled),
                time_ids.to(self.device).repeat(2 if guided else 1, 1),
                *self._text_layers.project(stacked(prompt.tokens, negative and negative.tokens)),
            )
        )

    def posterior(self, image: EncodedImage) -> Posterior:
        return Posterior(
            from_array(image.mean, self.device, torch.float32)[None],
            from_array(image.std, self.device, torch.float32)[None],
            image.scale,
            None if image.mask is None else from_array(image.mask, self.device, self.dtype)[None],
        )

    def predict(self, latents: torch.Tensor, timesteps: torch.Tensor, rows: Rows) -> torch.Tensor:
        """Latents [rows, C, h, w], a timestep for each row -> noise or velocity, as latents."""
        with self._calls.of(*latents.shape):
            return self._call(latents, timesteps, rows)

    def _forward(self, latents: torch.Tensor, timesteps: torch.Tensor, rows: Rows) -> torch.Tensor:
        pooled, time_ids, *text = rows.tensors
        prediction: torch.Tensor = self._unet(
            latents,
            timesteps.to(self.device),
            encoder_hidden_states=text,
            added_cond_kwargs={"text_embeds": pooled, "time_ids": time_ids},
            return_dict=False,
        )[0]
        return prediction
