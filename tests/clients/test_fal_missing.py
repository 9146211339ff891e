"""What fal's clients can ask for and this server does not have: it says so at once."""

import fal_client
import httpx
import pytest

from tests.clients.conftest import Call

APP = "glimpse/miniature"
INPUT = {"prompt": "a windmill on green hills", "num_inference_steps": 2}


def test_the_queue(client: fal_client.SyncClient) -> None:
    for ask in (client.submit, client.subscribe):
        with pytest.raises(fal_client.FalClientHTTPError) as refused:
            ask(APP, INPUT)
        assert refused.value.status_code == 404


async def test_the_queue_async(async_client: fal_client.AsyncClient) -> None:
    with pytest.raises(fal_client.FalClientHTTPError) as refused:
        await async_client.subscribe(APP, INPUT)
    assert refused.value.status_code == 404


def test_uploads(client: fal_client.SyncClient) -> None:
    with pytest.raises(httpx.HTTPStatusError, match="404"):
        client.upload(b"picture", "image/png")


@pytest.mark.parametrize("name", ["subscribe", "run_with_blob"])
def test_the_queue_and_uploads_in_javascript(call: Call, name: str) -> None:
    failure = call("proxy", name)["failure"]
    assert (failure["name"], failure["status"]) == ("ApiError", 404)
