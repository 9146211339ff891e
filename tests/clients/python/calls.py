"""litellm and langchain's image wrapper, unmodified, in the environment of requirements.txt.

`python calls.py CALL` prints what a call of the server at GLIMPSE_URL gave, as JSON.
"""

import asyncio
import base64
import io
import json
import os
import sys
from collections.abc import Callable
from typing import Any

BASE = f"{os.environ['GLIMPSE_URL']}/v1"
KEY = os.environ.get("OPENAI_API_KEY", "any")
PROMPT = "a red lighthouse by the sea at sunset"
MODEL = "openai/glimpse/miniature"  # litellm takes the first part off: which API is spoken

Told = dict[str, Any]


def file(name: str) -> io.BytesIO:
    return io.BytesIO(base64.b64decode(os.environ[name]))


def asked(ask: Callable[..., Any], **fields: Any) -> Told:
    """What one of its calls gave, or how it failed."""
    import litellm
    from openai import APIStatusError

    litellm.suppress_debug_info = True  # it would be printed
    fields = {"model": MODEL, "prompt": PROMPT, "api_base": BASE, "api_key": KEY} | fields
    try:
        answer = ask(**fields, max_retries=0)
    except APIStatusError as error:  # its errors are OpenAI's
        return {"failure": type(error).__name__, "status": error.status_code, "message": str(error)}
    told: Told = answer.model_dump()
    return told


def litellm_generate() -> Told:
    from litellm import image_generation

    return asked(image_generation, n=2, size="1536x1024", quality="low", output_format="jpeg")


def litellm_async() -> Told:
    from litellm import aimage_generation

    return asked(
        lambda **fields: asyncio.run(aimage_generation(**fields)), model="openai/gpt-image-1"
    )


def litellm_edit() -> Told:
    from litellm import image_edit

    return asked(image_edit, image=file("PICTURE"))


def litellm_edit_with_mask() -> Told:
    from litellm import image_edit

    return asked(image_edit, image=[file("PICTURE")], mask=file("MASK"), size="auto")


def litellm_refused() -> Told:
    from litellm import image_generation

    return asked(image_generation, n=9)


def litellm_unknown_model() -> Told:
    from litellm import image_generation

    return asked(image_generation, model="openai/gpt-4o")


def langchain(**fields: Any) -> list[str]:
    from langchain_community.utilities.dalle_image_generator import DallEAPIWrapper

    wrapper = DallEAPIWrapper(api_key=KEY, base_url=BASE, max_retries=0, **fields)
    told: str = wrapper.run(PROMPT)
    return told.split("\n")


def langchain_defaults() -> list[str]:
    return langchain()


def langchain_dalle_3() -> list[str]:
    return langchain(model="dall-e-3", n=2, size="1792x1024", quality="hd")


if __name__ == "__main__":
    print(json.dumps(globals()[sys.argv[1]]()))
