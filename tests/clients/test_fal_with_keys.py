"""fal's clients where a key is due: by the key, and by the token that they ask for by themselves.

And where a session that says nothing for a while is ended, which is the one normal end that a
server makes.
"""

from collections.abc import Iterator
from typing import Any

import fal_client
import pytest
import yaml
from fal_client.client import RealtimeError
from websockets.exceptions import InvalidStatus

from config.keys import create
from config.settings import ROOT
from tests.clients.conftest import Call
from tests.integration.application import Application

APP = "glimpse/miniature"
QUICK: dict[str, Any] = {"prompt": "a windmill on green hills", "num_inference_steps": 2}
WRONG = "not-a-key"
WAYS = ["fetch", "proxy"]


@pytest.fixture(scope="module")
def created(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """The file of keys, and the key in it."""
    path = tmp_path_factory.mktemp("keys") / "keys.json"
    return str(path), create(path, "clients", {})


@pytest.fixture(scope="module")
def application(created: tuple[str, str]) -> Iterator[Application]:
    config = yaml.safe_load((ROOT / "config/profiles/fused.yaml").read_text())
    config["applications"][0]["args"] = {
        "access": {"keys_file": created[0]},
        "realtime": {"idle_timeout_s": 2},
    }
    with Application(config) as running:
        yield running


@pytest.fixture
def key(created: tuple[str, str]) -> str:
    return created[1]


@pytest.fixture
def stranger(pointed_here: None) -> Iterator[fal_client.SyncClient]:
    client = fal_client.SyncClient(key=WRONG)
    yield client
    client._client.close()


@pytest.mark.parametrize("use_jwt", [True, False])
def test_a_session_by_token_and_by_key(client: fal_client.SyncClient, use_jwt: bool) -> None:
    with client.realtime(APP, use_jwt=use_jwt) as connection:
        connection.send(QUICK)
        result = connection.recv()
        assert result is not None and result["type"] == "final"


@pytest.mark.parametrize("use_jwt", [True, False])
async def test_a_session_by_token_and_by_key_async(
    async_client: fal_client.AsyncClient, use_jwt: bool
) -> None:
    async with async_client.realtime(APP, use_jwt=use_jwt) as connection:
        await connection.send(QUICK)
        result = await connection.recv()
        assert result is not None and result["type"] == "final"


def test_a_raw_websocket_by_token(client: fal_client.SyncClient) -> None:
    with client.ws_connect(APP, path="/ws") as socket:
        socket.send('{"prompt": "hills", "num_inference_steps": 2}')
        assert '"type": "final"' in socket.recv()


def test_pictures_by_key(client: fal_client.SyncClient) -> None:
    final: Any = client.run(APP, QUICK)
    assert final["type"] == "final"
    *_, last = client.stream(APP, QUICK)
    assert last["type"] == "final"


def test_a_wrong_key(stranger: fal_client.SyncClient) -> None:
    with pytest.raises(fal_client.FalClientHTTPError) as refused:
        stranger.run(APP, QUICK)
    assert (refused.value.status_code, refused.value.error_type) == (401, "unauthorized")
    with pytest.raises(fal_client.FalClientHTTPError, match="asks for a key"):
        with stranger.realtime(APP):  # its token is refused
            pass
    with pytest.raises(InvalidStatus, match="403"):
        with stranger.realtime(APP, use_jwt=False):
            pass


def test_a_session_that_ends_gives_none(client: fal_client.SyncClient) -> None:
    with client.realtime(APP) as connection:
        with pytest.raises(RealtimeError, match="TIMEOUT"):
            connection.recv()
        assert connection.recv() is None


async def test_a_session_that_ends_gives_none_async(
    async_client: fal_client.AsyncClient,
) -> None:
    async with async_client.realtime(APP) as connection:
        with pytest.raises(RealtimeError, match="TIMEOUT"):
            await connection.recv()
        assert await connection.recv() is None


@pytest.mark.parametrize("way", WAYS)
class TestJavaScript:
    def test_a_picture_by_key(self, call: Call, way: str) -> None:
        assert call(way, "run")["data"]["type"] == "final"

    def test_a_wrong_key(self, call: Call, way: str) -> None:
        failure = call(way, "refused_run", FAL_KEY=WRONG)["failure"]
        assert (failure["name"], failure["status"]) == ("ApiError", 401)
        assert "asks for a key" in failure["message"]

    def test_a_session_by_its_own_token_that_ends_is_begun_anew(self, call: Call, way: str) -> None:
        assert call(way, "realtime_idle") == {
            "types": ["final", "final"],
            "closed": 1000,
            "sockets": 2,
            "errors": [],
        }


def test_a_session_by_a_token_of_a_backend(call: Call) -> None:
    [answer] = call("fetch", "realtime_with_token")
    assert answer["result"]["type"] == "final"


def test_a_stream_by_a_token_of_a_backend(call: Call) -> None:
    assert call("fetch", "stream_with_token")["type"] == "final"
