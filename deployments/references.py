"""Results that stay where they are until the stage that needs them takes them.

A stage puts its result in the object store and answers with the reference, inside a list so that
Ray does not fetch it on the way. Serve's own way, passing an unfinished response on as an argument,
saves a hop, but when what it waits for fails, a streaming call never hears of it (Ray 2.60).
"""

from typing import Any, TypeAlias

import ray
from ray.exceptions import RayError

from glimpse.errors import StageLost

Reference: TypeAlias = list[Any]
"""One `ray.ObjectRef`, in a list."""


def put(value: object) -> Reference:
    return [ray.put(value)]


async def take(reference: Reference, stage: str) -> Any:
    """The value. Raises `StageLost` where the process that made it is gone, and the value too."""
    try:
        return await reference[0]
    except RayError as failure:
        raise StageLost(stage) from failure
