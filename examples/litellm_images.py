"""litellm, unmodified: one address, and `openai/` before the model's name. Writes windmill.png.

make serve
pip install litellm
python examples/litellm_images.py
"""

import base64
import os
from pathlib import Path

import litellm

HERE = {
    "model": "openai/glimpse/miniature",
    "api_base": os.environ.get("GLIMPSE_URL", "http://localhost:8000") + "/v1",
    "api_key": os.environ.get("OPENAI_API_KEY", "any"),
}
picture = Path("windmill.png")

made = litellm.image_generation(prompt="a windmill", size="1024x1024", **HERE)
picture.write_bytes(base64.b64decode(made.data[0].b64_json))
print(picture)

with picture.open("rb") as file:
    edited = litellm.image_edit(image=file, prompt="a windmill at night", **HERE)
night = picture.with_stem("windmill-night")
night.write_bytes(base64.b64decode(edited.data[0].b64_json))
print(night)
