"""Records what unmodified clients send, as fixtures: `python -m tests.wire.capture [FOLDER]`.

Needs the packages of tests/clients/javascript (`make test` installs them). A `.msgpack` file is one
frame of a session; a `.http` file is one request, its head first, without what is this machine's or
this run's. tests/clients/test_wire.py fails when a client sends something else: capture again then,
and look at the difference.
"""

import base64
import os
import subprocess
import sys
import threading
from pathlib import Path

import fal_client
import msgpack
import openai
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from tests.clients.conftest import JAVASCRIPT
from tests.integration.application import eventually
from tests.wire.sent import APP, EDIT, FOLDER, INPUT, ORANGE, VALUES, WITH_PICTURE

# Headers of this machine and this run, not of the client.
MACHINE = ("arch", "os", "runtime-version")
OWN = {"host", "accept-encoding", *(f"x-stainless-{name}" for name in MACHINE)}


class Recorder:
    """A server that keeps what comes, and answers just enough for a client to be content."""

    def __init__(self) -> None:
        self.frames: list[bytes] = []
        self.requests: list[bytes] = []
        routes = [
            WebSocketRoute("/{path:path}", self._socket),
            Route("/rest/tokens/", lambda _: JSONResponse("token"), methods=["POST"]),
            Route("/{path:path}", self._request, methods=["POST"]),
        ]
        config = uvicorn.Config(Starlette(routes=routes), port=0, log_level="warning")
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run)

    def __enter__(self) -> "Recorder":
        self._thread.start()
        eventually(lambda: self._server.started)
        port = self._server.servers[0].sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        return self

    def __exit__(self, *_: object) -> None:
        self._server.should_exit = True
        self._thread.join()

    async def _socket(self, websocket: WebSocket) -> None:
        await websocket.accept()
        try:
            while True:
                self.frames.append(await websocket.receive_bytes())
                await websocket.send_bytes(msgpack.packb({"type": "final"}))
        except WebSocketDisconnect:
            pass

    async def _request(self, request: Request) -> Response:
        head = [f"POST {request.url.path} HTTP/1.1", "host: test"]
        head += [f"{name}: {value}" for name, value in request.headers.items() if name not in OWN]
        whole = "\r\n".join([*head, "", ""]).encode() + await request.body()
        _, is_form, boundary = request.headers["content-type"].partition("boundary=")
        if is_form:
            whole = whole.replace(boundary.encode(), b"0" * len(boundary))
        self.requests.append(whole)
        if request.url.path.endswith("/stream"):
            return Response("data: {}\n\n", media_type="text/event-stream")
        return JSONResponse({"created": 0, "data": []})


def main(folder: Path) -> None:
    with Recorder() as recorder:
        _fal_python(recorder)
        _write(folder, "fal_python", recorder)
        _fal_javascript(recorder)
        _write(folder, "fal_javascript", recorder)
        client = openai.OpenAI(base_url=f"{recorder.url}/v1", api_key="any")
        client.images.edit(image=ORANGE, **EDIT)
        (folder / "openai-edit.http").write_bytes(recorder.requests.pop())


def _fal_python(recorder: Recorder) -> None:
    fal_client.client.RUN_URL_FORMAT = f"{recorder.url}/"
    fal_client.client.REALTIME_URL_FORMAT = f"{recorder.url}/".replace("http", "ws", 1)
    client = fal_client.SyncClient(key="any")
    client.run(APP, INPUT)
    list(client.stream(APP, INPUT))
    with client.realtime(APP, use_jwt=False) as connection:
        for message in (VALUES, WITH_PICTURE):
            connection.send(message)
            connection.recv()


def _fal_javascript(recorder: Recorder) -> None:
    picture = base64.b64encode(ORANGE).decode()
    env = {**os.environ, "GLIMPSE_URL": recorder.url, "FAL_KEY": "any", "PICTURE": picture}
    for call in ("run", "stream", "realtime_values", "realtime_with_picture"):
        command = ["node", str(JAVASCRIPT / "fal.mjs"), "fetch", call]
        subprocess.run(command, env=env, check=True, capture_output=True)


def _write(folder: Path, client: str, recorder: Recorder) -> None:
    for kind, request in zip(("run", "stream"), recorder.requests, strict=True):
        (folder / f"{client}-{kind}.http").write_bytes(request)
    for kind, frame in zip(("values", "picture"), recorder.frames, strict=True):
        (folder / f"{client}-{kind}.msgpack").write_bytes(frame)
    recorder.requests.clear()
    recorder.frames.clear()


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER)
