"""Results that stay where they are until the stage that needs them takes them.

The flow gets a reference to a stage's answer once it is there, without fetching it, and hands it on
inside a list, so that Ray does not fetch it on the way. The process that called owns the answer: it
outlives the replica that made it, and its failure is raised where it is taken. Two other ways lose
generations in Ray 2.60: what a replica puts in the store itself and answers with the reference of
is sometimes freed under load while others hold it; and when a response that is passed on as an
argument fails, a streaming call never hears of it.
"""

from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from cachetools import LRUCache
from ray.serve.handle import DeploymentResponse

from deployments.failures import translated
from glimpse.errors import GlimpseError

Reference: TypeAlias = list[Any]
"""One `ray.ObjectRef`, in a list."""


@dataclass(frozen=True, slots=True)
class Inputs:
    """Of a job. `references`, of the conditioning and of the input picture, are left out where the
    denoiser has kept the values: what holds no reference can go by value, in half the time."""

    names: tuple[str, str | None]
    references: tuple[Reference, Reference | None] | None

    @classmethod
    def of(cls, conditioning: Reference, image: Reference | None) -> "Inputs":
        names = conditioning[0].hex(), None if image is None else image[0].hex()
        return cls(names, (conditioning, image))

    def kept(self) -> "Inputs":
        return replace(self, references=None)


class NotKept(GlimpseError):
    """A denoiser was named inputs that it does not have: another one was the session's before."""


KEPT_SESSIONS = 256  # whose inputs a denoiser keeps; those of SDXL are a megabyte


async def reference_to(response: DeploymentResponse[Any]) -> tuple[Reference, Any]:
    """A reference to the answer, and the answer. Raises what the stage raised.

    Only the value tells that it is none. Serve fetches each answer as well, to see whether its
    replica died.
    """
    reference = await response._to_object_ref()
    return [reference], await reference


async def take(reference: Reference, stage: str) -> Any:
    """The value. Raises what the stage raised, or `StageLost` where the value is gone."""
    with translated(stage):
        return await reference[0]


class KeptInputs:
    """What the last job of each session was made from. The next is mostly made from the same."""

    def __init__(self) -> None:
        self._of_session: LRUCache[str, tuple[Inputs, Any, Any]] = LRUCache(KEPT_SESSIONS)

    async def take(self, inputs: Inputs, session: str | None) -> tuple[Any, Any]:
        """The values of both.

        Raises what the encoders raised, or `StageLost` where a value is gone and has to be made
        again, or `NotKept`.
        """
        if inputs.references is None:
            kept, conditioning, image = self._of_session.get(session or "", (None, None, None))
            if kept != inputs:
                raise NotKept
            return conditioning, image
        of_text, of_image = inputs.references
        conditioning = await take(of_text, "text_encode")
        image = None if of_image is None else await take(of_image, "image_encode")
        if session is not None:
            self._of_session[session] = inputs.kept(), conditioning, image
        return conditioning, image
