"""What JSON answers of several doors have in common."""

import base64
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from glimpse.event_log import Timings
from glimpse.ports import Picture


def image_json(picture: Picture) -> dict[str, Any]:
    """fal's Image, with a data URI."""
    data = base64.b64encode(picture.data).decode("ascii")
    return {
        "url": f"data:{picture.content_type};base64,{data}",
        "content_type": picture.content_type,
        "width": picture.width,
        "height": picture.height,
    }


def warnings_json(warnings: Sequence[str]) -> dict[str, list[str]]:
    """Absent where there are none."""
    return {"warnings": list(warnings)} if warnings else {}


def timings_json(timings: Timings) -> dict[str, float]:
    """Seconds."""
    return {name: round(seconds, 4) for name, seconds in asdict(timings).items()}
