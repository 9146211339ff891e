"""fal's unmodified Python client over plain HTTP: three addresses, set once.

make serve
python examples/fal_python_http.py
"""

import asyncio
import os

import fal_client

SERVER = os.environ.get("GLIMPSE_URL", "http://localhost:8000")
APP = "glimpse/miniature"

fal_client.client.RUN_URL_FORMAT = f"{SERVER}/"
fal_client.client.REALTIME_URL_FORMAT = f"{SERVER}/".replace("http", "ws", 1)
fal_client.client.REST_URL = f"{SERVER}/rest"  # where tokens for realtime are from


async def main() -> None:
    client = fal_client.AsyncClient(key=os.environ.get("FAL_KEY", "any"))

    final = await client.run(APP, {"prompt": "a snowy city at night", "seed": 7})
    print("run:", final["image"]["width"], "x", final["image"]["height"])

    async for event in client.stream(APP, {"prompt": "a snowy city at night", "seed": 7}):
        print("stream:", event["type"], event["step"], "of", event["steps"])

    async with client.realtime(APP) as connection:
        for seed in range(3):
            await connection.send({"prompt": "a red balloon over the sea", "seed": seed})
            result = await connection.recv()
            print("realtime:", len(result["image"]["content"]), "bytes of", seed)


asyncio.run(main())
