"""The denoiser (UNet2DConditionModel): v-prediction on latents, conditioned on fresh captions."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import EulerDiscreteScheduler, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from torch import Tensor

from training.captions import caption
from training.data import TALL, TRAIN, WIDE, DataSet
from training.latents import Latents, load_latents
from training.loop import Average, Checkpoints, Progress, device, rate_at, seed_step
from training.muon import Muon
from training.ranks import average_gradients, clip_gradients
from training.scenes import Scene
from training.text import PROJECTION, WIDTH, TextEncoders, load_encoders

# Over all ranks.
BATCH = 32
STEPS = 2_800
RATE = 2e-3
# Part of the steps before the rate falls.
HOLD = 0.5
AVERAGE = 0.998
# Share of captions replaced by "" and share of conditions replaced by zeros, for guidance.
EMPTY = 0.06
ZEROED = 0.06
# One batch in this many is of pictures that are not square.
OTHER_SHAPES_EVERY = 16
_BY_ADAM = ("conv_in", "conv_out", "time_embedding", "add_embedding")


def new_unet() -> UNet2DConditionModel:
    """An untrained SDXL UNet in small: 9.8 million weights."""
    return UNet2DConditionModel(
        sample_size=16,
        block_out_channels=(64, 96, 192),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        layers_per_block=1,
        transformer_layers_per_block=1,
        attention_head_dim=(2, 3, 6),
        cross_attention_dim=2 * WIDTH,
        use_linear_projection=True,
        norm_num_groups=16,
        addition_embed_type="text_time",
        addition_time_embed_dim=32,
        projection_class_embeddings_input_dim=PROJECTION + 6 * 32,
    )


def new_scheduler() -> EulerDiscreteScheduler:
    """Zero terminal SNR, so that nights can be dark (Lin et al., arXiv:2305.08891)."""
    return EulerDiscreteScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type="v_prediction",
        timestep_spacing="trailing",
        rescale_betas_zero_snr=True,
    )


class Batches:
    """Latents with freshly worded captions, as the UNet takes them."""

    def __init__(self, work_dir: Path) -> None:
        self._text: TextEncoders = load_encoders(work_dir)
        self._sets = {data.name: self._load(data, work_dir) for data in (TRAIN, WIDE, TALL)}

    @staticmethod
    def _load(data: DataSet, work_dir: Path) -> tuple[Latents, list[Scene]]:
        return load_latents(data, work_dir), data.scenes

    def draw(self, step: int, seed: int, count: int) -> tuple[Tensor, dict[str, Tensor]]:
        """Latents (B, 4, h, w), and the keyword arguments that condition the UNet on them."""
        name = TRAIN.name
        if step % OTHER_SHAPES_EVERY == OTHER_SHAPES_EVERY - 1:
            # Half as many more pixels, so a third fewer pictures.
            name = (WIDE.name, TALL.name)[step // OTHER_SHAPES_EVERY % 2]
            count = count * 2 // 3
        latents, scenes = self._sets[name]
        rows = np.random.default_rng(seed).integers(len(latents.mean), size=count)
        sample = latents.sample(rows)
        return sample, self._condition([scenes[row] for row in rows], sample, random.Random(seed))

    def _condition(
        self, scenes: list[Scene], latents: Tensor, rng: random.Random
    ) -> dict[str, Tensor]:
        texts = ["" if rng.random() < EMPTY else caption(scene, rng) for scene in scenes]
        hidden, pooled = self._text.encode(texts)
        keep = (torch.rand(len(scenes), device=hidden.device) >= ZEROED).float()
        return {
            "encoder_hidden_states": hidden * keep[:, None, None],
            "text_embeds": pooled * keep[:, None],
            "time_ids": _time_ids(len(scenes), latents, rng),
        }


def _time_ids(count: int, latents: Tensor, rng: random.Random) -> Tensor:
    """SDXL's sizes and crop in pixels, (B, 6); some at random, so that odd requests do no harm."""
    height, width = 8 * latents.shape[-2], 8 * latents.shape[-1]
    usual = [height, width, 0, 0, height, width]
    rows = [
        [rng.randint(0, 1024) for _ in usual] if rng.random() < 0.2 else usual for _ in range(count)
    ]
    return torch.tensor(rows, dtype=torch.float32, device=latents.device)


def v_loss(
    unet: UNet2DConditionModel, latents: Tensor, condition: dict[str, Tensor], alphas: Tensor
) -> Tensor:
    """Mean squared error of v = sqrt(a) noise - sqrt(1 - a) latents (arXiv:2202.00512, 2.4).

    The timesteps are uniform, one from each of B equal parts of the schedule.
    """
    count = len(latents)
    parts = torch.arange(count, device=latents.device) + torch.rand(count, device=latents.device)
    timesteps = (parts / count * len(alphas)).long()
    signal = alphas[timesteps].sqrt()[:, None, None, None]
    sigma = (1 - alphas[timesteps]).sqrt()[:, None, None, None]
    noise = torch.randn_like(latents)
    with torch.autocast(latents.device.type, torch.bfloat16):
        guess = unet(
            signal * latents + sigma * noise,
            timesteps,
            condition["encoder_hidden_states"],
            added_cond_kwargs={k: condition[k] for k in ("text_embeds", "time_ids")},
        ).sample
    return F.mse_loss(guess.float(), signal * noise - sigma * latents)


def train_unet(rank: int, ranks: int, work_dir: Path, steps: int = STEPS) -> None:
    """Train the UNet; leaves its averaged weights in work_dir/unet."""
    torch.manual_seed(0)
    unet = new_unet().to(device())
    if device().type == "cpu":
        # Plain attention: the fused kernel's backward pass costs a quarter of a step on a CPU.
        unet.set_attn_processor(AttnProcessor())
    muon = Muon(unet, by_adam=_BY_ADAM, weight_decay=0.02, rank=rank, ranks=ranks)
    average = Average(unet, AVERAGE)
    parts = {"unet": unet, "muon": muon, "average": average}
    checkpoints = Checkpoints(work_dir / "unet.pt", parts, writes=rank == 0)
    progress = Progress("unet", steps, silent=rank != 0)
    batches = Batches(work_dir)
    alphas = new_scheduler().alphas_cumprod.to(device())
    for step in checkpoints.steps(steps):
        latents, condition = batches.draw(step, seed_step("unet", step, rank), BATCH // ranks)
        loss = v_loss(unet, latents, condition, alphas)
        loss.backward()  # type: ignore[no-untyped-call]
        average_gradients(unet, ranks)
        clip_gradients(unet, 1.0)
        muon.step(rate_at(step, steps, RATE, warmup=100, hold=HOLD))
        muon.zero_grad()
        average.update(step)
        progress.add(step, loss=loss)
    if rank == 0:
        average.copy_to(unet)
        unet.save_pretrained(work_dir / "unet")
