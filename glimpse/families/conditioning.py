"""What the text stage hands the denoiser, as it travels between processes."""

from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class TextEmbedding:
    """One text: `tokens` [T, D] and `pooled` [P]; uint16 holds bfloat16. `cut`: how many tokens of
    the text were too many for the encoders and are not in it."""

    tokens: NDArray[Any]
    pooled: NDArray[Any]
    cut: int = 0


@dataclass(frozen=True, slots=True)
class Conditioning:
    """A prompt and what to steer away from: no negative text means zeros, as in the pipeline."""

    prompt: TextEmbedding
    negative: TextEmbedding | None

    @property
    def cut(self) -> tuple[int, int]:
        """How many tokens of the prompt and of the negative text are not in it."""
        return self.prompt.cut, 0 if self.negative is None else self.negative.cut


@dataclass(frozen=True, slots=True)
class EncodedImage:
    """The posterior of an input picture, [C, h, w] each. A sample of it times `scale` is latents
    of the network's. For inpainting a `mask` [1, h, w]: 1 where it is repainted, 0 where kept."""

    mean: NDArray[Any]
    std: NDArray[Any]
    scale: float
    mask: NDArray[Any] | None = None
