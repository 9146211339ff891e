"""Scores the model, and any other one, on captions of combinations that were never trained on."""

from __future__ import annotations

import argparse
import json
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL, AutoencoderTiny, StableDiffusionXLPipeline
from torch import Tensor

from training.captions import caption
from training.data import UNSEEN, VALIDATION, load_pixels
from training.export import megabytes
from training.judge import Attributes, classify_pixels, held_out_accuracy, load_judge
from training.loop import device
from training.renderer import Pixels
from training.scenes import Scene
from training.text import labels
from training.vae import psnr, to_tensor

GUIDANCE = 4.5
_BATCH = 20
# What evaluation.json holds.
Figures = dict[str, Any]
_FIGURES_BEGIN = "<!-- figures: written by training/evaluate.py -->"
_FIGURES_END = "<!-- end of figures -->"
_COLUMNS = ("time", "background", "object", "weather", "all three")


@dataclass(frozen=True, slots=True)
class Row:
    """Percentages of pictures that show what was asked."""

    images: str
    time: float
    background: float
    object: float
    weather: float
    all_three: float

    @property
    def values(self) -> tuple[float, ...]:
        return (self.time, self.background, self.object, self.weather, self.all_three)


def score(images: str, found: Attributes, scenes: Sequence[Scene]) -> Row:
    """Compare what the judge found with what was asked; `all_three` leaves the weather out."""
    right = {name: found[name] == wanted for name, wanted in labels(scenes).items()}
    right["all_three"] = right["time"] & right["background"] & right["object"]
    names = ("time", "background", "object", "weather", "all_three")
    return Row(images, *(round(100 * right[name].float().mean().item(), 1) for name in names))


def unseen_captions(scenes: Sequence[Scene]) -> list[str]:
    """One caption for each scene that names everything the judge looks for."""
    return [caption(s, random.Random(i), noise=0.0, complete=True) for i, s in enumerate(scenes)]


def load_pipeline(folder: Path) -> StableDiffusionXLPipeline:
    """The model in single precision, quiet."""
    pipeline = StableDiffusionXLPipeline.from_pretrained(
        folder, dtype=torch.float32, use_safetensors=True
    )
    pipeline.set_progress_bar_config(disable=True)
    pipeline.unet.to(memory_format=torch.channels_last)
    pipeline.vae.to(memory_format=torch.channels_last)
    return pipeline.to(device())


def draw(
    pipeline: StableDiffusionXLPipeline, texts: Sequence[str], steps: int, guidance: float
) -> Pixels:
    """One picture for each text, its number as the seed: uint8 (N, H, W, 3)."""
    pictures = []
    for start in range(0, len(texts), _BATCH):
        batch = list(texts[start : start + _BATCH])
        seeds = [torch.Generator().manual_seed(start + i) for i in range(len(batch))]
        result = pipeline(
            batch,
            height=128,
            width=128,
            num_inference_steps=steps,
            guidance_scale=guidance,
            generator=seeds,
            output_type="np",
        )
        pictures.append(to_pixels(torch.from_numpy(result.images).permute(0, 3, 1, 2) * 2 - 1))
    return np.concatenate(pictures)


def to_pixels(pictures: Tensor) -> Pixels:
    """(B, 3, H, W) in -1..1 to uint8 (B, H, W, 3)."""
    scaled = pictures.float().clamp(-1, 1).add(1).mul(127.5).round()
    pixels: Pixels = scaled.permute(0, 2, 3, 1).byte().cpu().numpy()
    return pixels


@torch.inference_mode()
def reconstructions(
    vae: AutoencoderKL, tiny: AutoencoderTiny, pixels: Pixels
) -> tuple[Tensor, Tensor, Tensor]:
    """The pictures, and the same through the VAE and through its encoder and the tiny decoder."""
    real = to_tensor(np.array(pixels))
    full, small = [], []
    for batch in torch.split(real, _BATCH):
        latents = vae.encode(batch.to(device())).latent_dist.mode()
        full.append(vae.decode(latents).sample.cpu())
        small.append(tiny.decode(latents).sample.cpu())
    return real, torch.cat(full), torch.cat(small)


@torch.inference_mode()
def decode_times(
    vae: AutoencoderKL, tiny: AutoencoderTiny, count: int, repeats: int = 15
) -> tuple[float, float]:
    """Median milliseconds to decode `count` latents with each, taken in turns."""
    latents = torch.randn(count, 4, 16, 16, device=device())
    latents = latents.contiguous(memory_format=torch.channels_last)

    def milliseconds(decode: Callable[[Tensor], object]) -> float:
        start = time.perf_counter()
        decode(latents)
        if latents.is_cuda:
            torch.cuda.synchronize()
        return 1000 * (time.perf_counter() - start)

    pairs = [(milliseconds(vae.decode), milliseconds(tiny.decode)) for _ in range(repeats + 3)][3:]
    return float(np.median([p[0] for p in pairs])), float(np.median([p[1] for p in pairs]))


def evaluate(
    model: Path, work_dir: Path, also: Sequence[Path] = (), steps: Sequence[int] = (20, 8, 4)
) -> Figures:
    """Every figure of the model card."""
    judge = load_judge(work_dir)
    pixels = load_pixels(UNSEEN, work_dir / "data")
    scenes = UNSEEN.scenes[: len(pixels)]
    texts = unseen_captions(scenes)
    pipeline = load_pipeline(model)
    tiny = AutoencoderTiny.from_pretrained(
        model / "vae_tiny", dtype=torch.float32, use_safetensors=True
    )
    tiny = tiny.to(device(), memory_format=torch.channels_last)

    def judged(images: str, pictures: Pixels) -> Row:
        row = score(images, classify_pixels(judge, pictures), scenes)
        print(markdown([row]).splitlines()[-1], flush=True)
        return row

    _, through_vae, through_tiny = reconstructions(pipeline.vae, tiny, pixels)
    rows = [
        judged("real renders", pixels),
        judged("real, through the VAE", to_pixels(through_vae)),
        judged("real, through the TinyVAE", to_pixels(through_tiny)),
    ]
    for count in steps:
        drawn = draw(pipeline, texts, count, GUIDANCE)
        rows.append(judged(f"this model, {count} steps", drawn))
    for folder in also:
        other = load_pipeline(folder)
        for count in (max(steps), min(steps)):
            drawn = draw(other, texts, count, GUIDANCE)
            rows.append(judged(f"{folder.name}, {count} steps", drawn))
    real, full, small = reconstructions(
        pipeline.vae, tiny, load_pixels(VALIDATION, work_dir / "data")
    )
    times = {count: decode_times(pipeline.vae, tiny, count) for count in (1, 8)}
    return {
        "captions": len(texts),
        "guidance_scale": GUIDANCE,
        "judge_on_held_out_renders": held_out_accuracy(judge, work_dir),
        "rows": [asdict(row) for row in rows],
        "vae_psnr_db": round(psnr(full, real), 2),
        "vae_tiny_psnr_db": round(psnr(small, real), 2),
        "decode_ms": {
            str(count): {"vae": round(slow, 1), "vae_tiny": round(fast, 1)}
            for count, (slow, fast) in times.items()
        },
        "decode_speedup": {str(n): round(slow / fast, 1) for n, (slow, fast) in times.items()},
        "megabytes": round(megabytes(model), 1),
        "table": markdown(rows),
    }


def markdown(rows: Sequence[Row]) -> str:
    """The rows as one table."""
    lines = ["| images | " + " | ".join(_COLUMNS) + " |", "|---" * (len(_COLUMNS) + 1) + "|"]
    for row in rows:
        lines.append(f"| {row.images} | " + " | ".join(f"{v:.1f}" for v in row.values) + " |")
    return "\n".join(lines)


def write_figures(model: Path, figures: Figures) -> None:
    """Write model/evaluation.json, and the same figures into the model card between its marks."""
    (model / "evaluation.json").write_text(json.dumps(figures, indent=2) + "\n")
    card = model / "README.md"
    if card.exists():
        before, _, rest = card.read_text().partition(_FIGURES_BEGIN)
        _, _, after = rest.partition(_FIGURES_END)
        card.write_text(f"{before}{_FIGURES_BEGIN}\n{_summary(figures)}\n{_FIGURES_END}{after}")


def _summary(figures: Figures) -> str:
    times, faster = figures["decode_ms"], figures["decode_speedup"]
    judge = figures["judge_on_held_out_renders"]
    lines = [
        f"{figures['table']}",
        "",
        f"Guidance {figures['guidance_scale']}, {figures['captions']} captions. The judge itself "
        f"gets all three right on {100 * judge['all three']:.1f} % of new renders of all 148 "
        "combinations.",
        "",
        "| | VAE | TinyVAE |",
        "|---|---|---|",
        f"| PSNR, dB | {figures['vae_psnr_db']} | {figures['vae_tiny_psnr_db']} |",
    ]
    for count, pair in times.items():
        label = f"decode {count} latent{'s' if count != '1' else ''}, ms"
        fast = f"{pair['vae_tiny']} ({faster[count]} times faster)"
        lines.append(f"| {label} | {pair['vae']} | {fast} |")
    return "\n".join([*lines, "", f"The folder takes {figures['megabytes']} MB."])


def main() -> None:
    """python -m training.evaluate models/miniature --also some/other/model"""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("--also", type=Path, action="append", default=[])
    parser.add_argument("--work-dir", type=Path, default=Path(".train"))
    arguments = parser.parse_args()
    figures = evaluate(arguments.model, arguments.work_dir, arguments.also)
    write_figures(arguments.model, figures)
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
