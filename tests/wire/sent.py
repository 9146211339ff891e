"""What the clients were told to send, when the files beside this one were captured."""

import base64
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent
APP = "glimpse/miniature"
# A PNG of 8 x 8 pixels, all orange.
ORANGE = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAgAAAAICAIAAABLbSncAAAAFElEQVR4nGP8VSHHgA0wYRUdtBIAPVMBoOrfQOYAAAAASUVORK5CYII="
)
ORANGE_URL = "data:image/png;base64," + base64.b64encode(ORANGE).decode()
INPUT = {"prompt": "a red lighthouse by the sea at sunset", "num_inference_steps": 12, "seed": 7}
VALUES: dict[str, Any] = {
    "prompt": "schön 🎈",
    "negative_prompt": None,  # in JavaScript undefined
    "seed": 2**32 - 1,
    "guidance_scale": 4.5,
    "num_inference_steps": 2,
    "image_size": {"width": 64, "height": 64},
    "stream_previews": False,
}
WITH_PICTURE = {"prompt": "a windmill on green hills", "num_inference_steps": 2, "image": ORANGE}
EDIT: dict[str, Any] = {"prompt": "a house", "n": 2, "size": "1024x1024"}
