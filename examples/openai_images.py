"""OpenAI's unmodified Python client: one address. Writes windmill.png, sharper with every event.

make serve
python examples/openai_images.py
"""

import base64
import os
from pathlib import Path

import openai

SERVER = os.environ.get("GLIMPSE_URL", "http://localhost:8000")

client = openai.OpenAI(base_url=f"{SERVER}/v1", api_key=os.environ.get("OPENAI_API_KEY", "any"))
picture = Path("windmill.png")

for event in client.images.generate(prompt="a windmill", stream=True, partial_images=3):
    picture.write_bytes(base64.b64decode(event.b64_json))
    print(event.type)

with picture.open("rb") as file:
    edited = client.images.edit(image=file, prompt="a windmill at night")
picture.with_stem("windmill-night").write_bytes(base64.b64decode(edited.data[0].b64_json))
