"""fal's Python client, told by its environment alone: what the example of it leaves out."""

import asyncio
import json

import fal_client

APP = "glimpse/miniature"
QUICK = {"prompt": "a windmill on green hills", "num_inference_steps": 2}


async def main() -> None:
    final = await fal_client.run_async(APP, QUICK)
    print("run_async", final["type"])
    events = [event["type"] async for event in fal_client.stream_async(APP, QUICK)]
    print("stream_async", events[-1])
    async with fal_client.realtime_async(APP, use_jwt=False) as connection:
        await connection.send(QUICK)
        result = await connection.recv()
        assert result is not None
        print("realtime_async", result["type"])
    async with fal_client.ws_connect_async(APP, use_jwt=False, path="/ws") as socket:
        await socket.send(json.dumps(QUICK))
        print("ws_connect_async", json.loads(await socket.recv())["type"])
    with fal_client.ws_connect(APP, use_jwt=False, path="/ws") as socket:
        socket.send(json.dumps(QUICK))
        print("ws_connect", json.loads(socket.recv())["type"])


asyncio.run(main())
