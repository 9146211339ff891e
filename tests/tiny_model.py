"""A random SDXL of the real classes, small enough to be made and run in a unit test."""

import string
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    AutoencoderTiny,
    EulerDiscreteScheduler,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
)

BOS, EOS = "<|startoftext|>", "<|endoftext|>"
TEXT_WIDTH = 16
TIME_WIDTH = 8


def build_tiny_sdxl(folder: Path) -> Path:
    """Saves a whole pipeline in float32, with `vae_tiny/` beside its parts; the same one each time.

    Like the built-in model it predicts velocity on zero-terminal-SNR sigmas.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        StableDiffusionXLPipeline(
            vae=build_vae(),
            text_encoder=CLIPTextModel(_text_config("quick_gelu")),
            text_encoder_2=CLIPTextModelWithProjection(_text_config("gelu")),
            tokenizer=_tokenizer(),
            tokenizer_2=_tokenizer(),
            unet=_unet(),
            scheduler=EulerDiscreteScheduler(**scheduler_config()),
            force_zeros_for_empty_prompt=True,
            add_watermarker=False,
        ).save_pretrained(folder)
        widths = (8, 8, 8, 8)
        AutoencoderTiny(
            encoder_block_out_channels=widths, decoder_block_out_channels=widths
        ).save_pretrained(folder / "vae_tiny")
    return folder


def scheduler_config() -> dict[str, Any]:
    return {
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "beta_schedule": "scaled_linear",
        "prediction_type": "v_prediction",
        "rescale_betas_zero_snr": True,
        "timestep_spacing": "trailing",
    }


def _vocabulary() -> dict[str, int]:
    letters = string.ascii_lowercase + string.digits + string.punctuation
    tokens = [*letters, *(f"{letter}</w>" for letter in letters), BOS, EOS]
    return {token: number for number, token in enumerate(tokens)}


def _tokenizer() -> CLIPTokenizer:
    return CLIPTokenizer(
        vocab=_vocabulary(),
        merges=[],
        bos_token=BOS,
        eos_token=EOS,
        pad_token=EOS,
        unk_token=EOS,
        model_max_length=77,
    )


def _text_config(activation: str) -> CLIPTextConfig:
    vocabulary = _vocabulary()
    return CLIPTextConfig(
        vocab_size=len(vocabulary),
        hidden_size=TEXT_WIDTH,
        intermediate_size=32,
        projection_dim=TEXT_WIDTH,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=77,
        hidden_act=activation,
        bos_token_id=vocabulary[BOS],
        eos_token_id=vocabulary[EOS],
        pad_token_id=vocabulary[EOS],
    )


def _unet() -> UNet2DConditionModel:
    return UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(16,),
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D",),
        up_block_types=("UpBlock2D",),
        norm_num_groups=8,
        attention_head_dim=2,
        cross_attention_dim=2 * TEXT_WIDTH,
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=TIME_WIDTH,
        projection_class_embeddings_input_dim=TEXT_WIDTH + 6 * TIME_WIDTH,
    )


def build_vae(latent_channels: int = 4, in_channels: int = 3) -> AutoencoderKL:
    return AutoencoderKL(
        in_channels=in_channels,
        sample_size=64,
        block_out_channels=(8, 8, 8, 8),
        layers_per_block=1,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        norm_num_groups=4,
        latent_channels=latent_channels,
        scaling_factor=0.13025,
    )
