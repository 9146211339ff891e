"""Results that stay where they are until the stage that needs them takes them.

The flow gets a reference to a stage's answer once it is there, without fetching it, and hands it on
inside a list, so that Ray does not fetch it on the way. The process that called owns the answer: it
outlives the replica that made it, and its failure is raised where it is taken. Two other ways lose
generations in Ray 2.60: what a replica puts in the store itself and answers with the reference of
is sometimes freed under load while others hold it; and when a response that is passed on as an
argument fails, a streaming call never hears of it.
"""

from typing import Any, TypeAlias

from ray.serve.handle import DeploymentResponse

from deployments.failures import translated

Reference: TypeAlias = list[Any]
"""One `ray.ObjectRef`, in a list."""


async def reference_to(response: DeploymentResponse[Any]) -> Reference:
    """A reference to the answer, once there is one; a failure is an answer too."""
    reference = await response._to_object_ref()
    return [await reference._ready()]


async def take(reference: Reference, stage: str) -> Any:
    """The value. Raises what the stage raised, or `StageLost` where the value is gone."""
    with translated(stage):
        return await reference[0]
