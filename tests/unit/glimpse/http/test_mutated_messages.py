"""Ten thousand damaged messages through the doors: each is answered, and a session outlives all."""

import json
from collections import Counter
from typing import Any

import msgpack
import pytest

from tests.mutations import LAST, Mutations
from tests.unit.glimpse.http.test_realtime import server
from tests.unit.glimpse.http.websocket import Socket

ROOMY = {
    "max_frame_bytes": 2**20,
    "messages_per_s": 1e9,
    "max_input_bytes_per_s": 1e12,
    "max_unsent": 10_000,
    "max_output_bytes": 2**40,
}
MESSAGES = 1_000  # of a session


class Answers:
    """What has come of the messages so far: each is answered with an error or a picture, or has
    been dropped for a newer one, which a later picture tells."""

    def __init__(self, socket: Socket) -> None:
        self._socket = socket
        self.kinds: Counter[str] = Counter()

    async def next(self) -> dict[str, Any]:
        answer: dict[str, Any] = await self._socket.receive()
        assert answer["type"] in ("preview", "final", "x-fal-error"), answer
        if answer["type"] != "preview":
            self.kinds[answer.get("error", "final")] += 1
        self.kinds["dropped"] += answer.get("dropped", 0)
        return answer


@pytest.mark.parametrize("burst", [1, 2, 5, 50, MESSAGES])
@pytest.mark.parametrize("path", ["/realtime", "/ws"])
async def test_every_message_is_answered_and_the_session_goes_on(path: str, burst: int) -> None:
    mutations = Mutations(burst, text=path == "/ws")
    async with Socket(server(**ROOMY).app, path, f"max_buffering={min(burst, 60)}") as socket:
        answers = Answers(socket)
        for sent in range(burst, MESSAGES + 1, burst):
            for _ in range(burst):
                socket.send(mutations.frame())
            while answers.kinds.total() < sent:
                await answers.next()
        socket.send(json.dumps(LAST) if path == "/ws" else msgpack.packb(LAST))
        result = await answers.next()
        assert (result["type"], result["request_id"], result["seed"]) == ("final", "last", 3)
        assert len(result["images"]) == 1
        if path == "/realtime":
            assert result["image"]["content"] == b"preview 3"
    # Or the damage would have been too great to get anywhere, or too little.
    kinds = answers.kinds
    assert min(kinds["INVALID_MESSAGE"], kinds["INVALID_REQUEST"]) > 100, kinds
    assert kinds["final"] + kinds["dropped"] > 100, kinds
