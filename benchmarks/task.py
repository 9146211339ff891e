"""What everyone who is measured has to make. Free of the service's libraries: peers import it."""

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from config.settings import AppSettings

PREVIEW_EVERY = 5
PROMPTS = (
    "a red lighthouse on a cliff at dusk",
    "a windmill in a field of wheat in the morning",
    "a small boat on a calm sea at night, with a full moon",
    "a snowy mountain behind a wooden cabin",
)


@dataclass(frozen=True, slots=True)
class Task:
    """The model, as folders or a hub's names, and how its pictures are made."""

    model: str
    tiny_vae: str
    width: int
    height: int
    steps: int
    guidance_scale: float

    @classmethod
    def of(cls, settings: "AppSettings") -> "Task":
        model = settings.model
        return cls(
            model=model.resolve(model.path),
            tiny_vae=model.resolve(model.tiny_vae),
            width=model.width,
            height=model.height,
            steps=model.num_inference_steps,
            guidance_scale=model.guidance_scale,
        )

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Task":
        return cls(**json.loads(text))


@dataclass(frozen=True, slots=True)
class Wanted:
    """One picture of the task. `preview_every` counts steps; 0: no previews."""

    prompt: str
    seed: int
    steps: int
    preview_every: int

    def fields(self) -> dict[str, Any]:
        """As a request to any of the servers."""
        return {
            "prompt": self.prompt,
            "seed": self.seed,
            "num_inference_steps": self.steps,
            "preview_every": self.preview_every,
        }


def wanted(task: Task, index: int, preview_every: int) -> Wanted:
    """The picture with this number."""
    return Wanted(PROMPTS[index % len(PROMPTS)], index, task.steps, preview_every)


def preview_steps(steps: int, every: int) -> frozenset[int]:
    """Steps (from 1) with a preview: the first and every multiple before the last, as the service
    has it (`glimpse.request`)."""
    if every == 0:
        return frozenset()
    return frozenset({1, *range(every, steps, every)}) - {steps}
