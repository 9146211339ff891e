"""A classifier that says what a picture shows; it alone learns from every combination."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.data import JUDGE_TRAIN, JUDGE_VALIDATION, load_pixels
from training.loop import Average, Checkpoints, Progress, Stateful, device, rate_at, seed_step
from training.muon import Muon
from training.renderer import Pixels
from training.text import ATTRIBUTES, labels
from training.vae import to_tensor

BATCH = 48
STEPS = 300
RATE = 2e-3
Attributes = dict[str, Tensor]


class _Block(nn.Module):
    """A residual block that halves the resolution."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(8, before)
        self.down = nn.Conv2d(before, after, 3, stride=2, padding=1)
        self.mix = nn.Conv2d(after, after, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.down(F.silu(self.norm(x)))
        mixed: Tensor = x + self.mix(F.silu(x))
        return mixed


class Judge(nn.Module):
    """Logits of every attribute for pictures (B, 3, 128, 128) in -1..1."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 24, 4, stride=2, padding=1)
        self.blocks = nn.Sequential(_Block(24, 48), _Block(48, 96), _Block(96, 128))
        self.sizes = [len(values) for values in ATTRIBUTES.values()]
        self.head = nn.Linear(128 * 16, sum(self.sizes))

    def forward(self, pictures: Tensor) -> Attributes:
        features = F.silu(self.blocks(self.stem(pictures)))
        logits = self.head(F.adaptive_avg_pool2d(features, 4).flatten(1))
        return dict(zip(ATTRIBUTES, logits.split(self.sizes, dim=-1), strict=True))

    @torch.no_grad()
    def classify(self, pictures: Tensor) -> Attributes:
        """The class of each attribute, (B,)."""
        return {name: logits.argmax(dim=-1).cpu() for name, logits in self(pictures).items()}


def roughen(pictures: Tensor) -> Tensor:
    """Soften, tint and add noise: the judge is to look at what is shown, not at how crisply."""
    size = int(torch.randint(56, 129, ()))
    small = F.interpolate(pictures, size=(size, size), mode="area")
    soft = F.interpolate(small, size=pictures.shape[-2:], mode="bilinear")
    shape = (len(pictures), 3, 1, 1)
    soft = soft * (1 + 0.06 * torch.randn(shape, device=soft.device))
    soft = soft + 0.04 * torch.randn(shape, device=soft.device)
    return soft + 0.05 * torch.rand(()) * torch.randn_like(soft)


def train_judge(work_dir: Path, steps: int = STEPS) -> None:
    """Train the judge; leaves its averaged weights in work_dir/judge-weights.pt."""
    torch.manual_seed(0)
    judge = Judge().to(device())
    muon, average = Muon(judge, by_adam=("stem", "head"), weight_decay=0.02), Average(judge, 0.99)
    parts: dict[str, Stateful] = {"judge": judge, "muon": muon, "average": average}
    checkpoints = Checkpoints(work_dir / "judge.pt", parts)
    progress = Progress("judge", steps)
    pixels = load_pixels(JUDGE_TRAIN, work_dir / "data")
    classes = labels(JUDGE_TRAIN.scenes)
    for step in checkpoints.steps(steps):
        rng = np.random.default_rng(seed_step("judge", step))
        rows = np.sort(rng.integers(len(pixels), size=BATCH))
        pictures = roughen(to_tensor(pixels[rows]).to(device()))
        with torch.autocast(pictures.device.type, torch.bfloat16):
            guesses = judge(pictures)
        wanted = {name: values[rows].to(device()) for name, values in classes.items()}
        losses = [F.cross_entropy(guesses[name].float(), wanted[name]) for name in wanted]
        loss = torch.stack(losses).sum()
        loss.backward()  # type: ignore[no-untyped-call]
        muon.step(rate_at(step, steps, RATE))
        muon.zero_grad()
        average.update(step)
        right = {n: (guesses[n].argmax(-1) == wanted[n]).float().mean() for n in wanted}
        progress.add(step, loss=loss, **right)
    average.copy_to(judge)
    torch.save(judge.state_dict(), work_dir / "judge-weights.pt")
    print("judge on held-out renders", held_out_accuracy(judge, work_dir), flush=True)


def load_judge(work_dir: Path) -> Judge:
    """The trained judge."""
    judge = Judge()
    judge.load_state_dict(torch.load(work_dir / "judge-weights.pt", weights_only=True))
    return judge.eval().to(device())


def classify_pixels(judge: Judge, pixels: Pixels, batch: int = 50) -> Attributes:
    """The class of each attribute of uint8 pictures (N, H, W, 3)."""
    found = [
        judge.classify(to_tensor(np.array(pixels[start : start + batch])).to(device()))
        for start in range(0, len(pixels), batch)
    ]
    return {name: torch.cat([part[name] for part in found]) for name in ATTRIBUTES}


def held_out_accuracy(judge: Judge, work_dir: Path) -> dict[str, float]:
    """Share of new renders of all combinations that the judge gets right, by attribute."""
    pixels = load_pixels(JUDGE_VALIDATION, work_dir / "data")
    wanted = labels(JUDGE_VALIDATION.scenes[: len(pixels)])
    found = classify_pixels(judge, pixels)
    right = {name: found[name] == wanted[name] for name in wanted}
    right["all three"] = right["time"] & right["background"] & right["object"]
    return {name: round(values.float().mean().item(), 4) for name, values in right.items()}
