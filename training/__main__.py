"""Makes the built-in model from nothing: python -m training [--quick] [STAGE ...]"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from training import data, decoder, judge, latents, text, unet, vae
from training.evaluate import evaluate, write_figures
from training.export import export
from training.ranks import default_ranks, launch
from training.sheet import draw_sheets

_QUICK_STEPS = 2
_QUICK_PICTURES = 48


@dataclass(frozen=True, slots=True)
class Run:
    """Where a training run works, and how large it is."""

    work_dir: Path
    output: Path
    ranks: int
    quick: bool
    also: tuple[Path, ...]

    def steps(self, usual: int) -> int:
        return _QUICK_STEPS if self.quick else usual

    def render(self) -> None:
        limit = _QUICK_PICTURES if self.quick else None
        for part in data.ALL:
            data.render_to(part, self.work_dir / "data", max(1, os.cpu_count() or 1), limit)

    def vae(self) -> None:
        work = partial(vae.train_vae, steps=self.steps(vae.STEPS))
        launch(work, self.ranks, self.work_dir)

    def text(self) -> None:
        text.train_text(self.work_dir, self.steps(text.STEPS))

    def judge(self) -> None:
        judge.train_judge(self.work_dir, self.steps(judge.STEPS))

    def latents(self) -> None:
        work = partial(latents.encode_sets, sets=(data.TRAIN, data.WIDE, data.TALL))
        launch(work, self.ranks, self.work_dir)

    def unet(self) -> None:
        work = partial(unet.train_unet, steps=self.steps(unet.STEPS))
        launch(work, self.ranks, self.work_dir)

    def decoders(self) -> None:
        decoder.train_decoders(
            self.work_dir,
            self.ranks,
            sharpen_steps=self.steps(decoder.SHARPEN_STEPS),
            tiny_steps=self.steps(decoder.TINY_STEPS),
        )

    def export(self) -> None:
        export(self.work_dir, self.output)

    def evaluate(self) -> None:
        counts = (2,) if self.quick else (20, 8, 4)
        figures = evaluate(self.output, self.work_dir, self.also, counts)
        write_figures(self.output, figures)
        print(figures["table"])
        draw_sheets(self.output, self.work_dir)


# What each stage leaves behind in the work directory; it is skipped where that exists. The others
# look for themselves, or are always done again.
STAGES: dict[str, tuple[Callable[[Run], None], str | None]] = {
    "render": (Run.render, None),
    "vae": (Run.vae, "vae"),
    "text": (Run.text, "text_encoder_2"),
    "judge": (Run.judge, "judge-weights.pt"),
    "latents": (Run.latents, None),
    "unet": (Run.unet, "unet"),
    "decoders": (Run.decoders, None),
    "export": (Run.export, None),
    "evaluate": (Run.evaluate, None),
}


def main() -> None:
    """Train every part that is not trained yet, export the model and score it.

    Stopping and starting again goes on from the last checkpoint. With no GPU it takes
    about two hours on two idle cores with bfloat16 instructions.
    """
    parser = argparse.ArgumentParser(prog="python -m training", description=main.__doc__)
    parser.add_argument("stages", nargs="*", metavar="STAGE", help="default: all")
    parser.add_argument("--work-dir", type=Path, default=Path(".train"))
    parser.add_argument("--output", type=Path, default=Path("models/miniature"))
    parser.add_argument("--also", type=Path, action="append", default=[], help="score this, too")
    parser.add_argument("--ranks", type=int, default=default_ranks(os.cpu_count() or 1))
    parser.add_argument("--quick", action="store_true", help="two steps of everything, to test")
    arguments = parser.parse_args()
    if unknown := set(arguments.stages) - set(STAGES):
        parser.error(f"no stage {', '.join(sorted(unknown))}; there are {', '.join(STAGES)}")
    run = Run(
        work_dir=arguments.work_dir,
        output=arguments.output,
        ranks=arguments.ranks,
        quick=arguments.quick,
        also=tuple(arguments.also),
    )
    run.work_dir.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1 if run.ranks > 1 else torch.get_num_threads())
    print(main.__doc__, f"Stages: {', '.join(STAGES)}; {run.ranks} processes.", sep="\n")
    for name in arguments.stages or STAGES:
        work, leaves = STAGES[name]
        if leaves and (run.work_dir / leaves).exists():
            print(f"{name}: done before", flush=True)
            continue
        start = time.monotonic()
        work(run)
        print(f"{name}: {time.monotonic() - start:.0f} s", flush=True)


if __name__ == "__main__":
    main()
