"""What HTTP clients of every kind send to the real server, through Serve's proxy."""

import json
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from tests.integration.application import Application
from tests.integration.test_leaving import wait_until_quiet

INPUT = {"prompt": "a windmill", "num_inference_steps": 2, "seed": 7}
BODY = json.dumps(INPUT).encode()
POST = b"POST %b HTTP/%b\r\nHost: localhost\r\nContent-Type: application/json\r\n%b"
LENGTH = b"Content-Length: %d\r\n\r\n" % len(BODY)
JAVA = """
import java.net.URI;
import java.net.http.*;

class Client {
    public static void main(String[] arguments) throws Exception {
        HttpClient client = HttpClient.newHttpClient();
        for (int i = 0; i < 2; i++) {
            var request = HttpRequest.newBuilder(URI.create(arguments[0]))
                .header("content-type", "application/json")
                .POST(HttpRequest.BodyPublishers.ofString(arguments[1])).build();
            var answer = client.send(request, HttpResponse.BodyHandlers.ofString());
            System.out.println(answer.statusCode() + " " + answer.body().contains("final"));
        }
    }
}
"""


class Client:
    """A connection that a test writes to by hand."""

    def __init__(self, application: Application) -> None:
        address = urlsplit(application.url)
        self.socket = socket.create_connection((address.hostname, address.port), timeout=60)

    def send(self, *parts: bytes) -> None:
        for part in parts:
            self.socket.sendall(part)

    def read(self) -> bytes:
        """Until the server closes."""
        read = b""
        while data := self.socket.recv(2**16):
            read += data
        return read

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *exception: object) -> None:
        self.socket.close()


@pytest.fixture
def client(application: Application) -> Iterator[Client]:
    with Client(application) as client:
        yield client


def test_an_offer_of_http_2_keeps_its_body_and_its_connection(client: Client) -> None:
    offer = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAEAAEAA\r\n"
    head = POST % (b"/", b"1.1", offer) + LENGTH
    client.send(head, BODY[:5], BODY[5:], head + BODY)
    client.send(POST % (b"/stream", b"1.1", b"Connection: close\r\n") + LENGTH + BODY)
    read = client.read()
    assert read.count(b"HTTP/1.1 200 OK") == 3 and read.count(b'"final"') == 3


@pytest.mark.parametrize("path", ["/", "/stream"])
def test_curl_offers_http_2(application: Application, path: str) -> None:
    version = subprocess.check_output(["curl", "--version"], text=True)
    if "HTTP2" not in version:
        pytest.skip("this curl has no HTTP/2")
    url = application.url + path
    command = ["curl", "-sS", "--http2", "--json", json.dumps(INPUT), url, "--next"]
    command += ["-sS", "--http2", "--json", json.dumps(INPUT), "-w", " %{num_connects}", url]
    told = subprocess.check_output(command, text=True, timeout=120)
    assert told.count('"type":"final"') == 2 and told.endswith(" 0")  # of the second request


def test_javas_http_client_offers_http_2(application: Application, tmp_path: Path) -> None:
    if not shutil.which("javac"):
        pytest.skip("there is no JDK")
    source = tmp_path / "Client.java"
    source.write_text(JAVA)
    command = ["java", str(source), f"{application.url}/", json.dumps(INPUT)]
    told = subprocess.check_output(command, text=True, timeout=240)
    assert told.split("\n")[:2] == ["200 true"] * 2


@pytest.mark.parametrize("path", [b"/", b"/stream", b"/v1/images/generations"])
def test_http_1_0_gets_its_picture_without_chunks(client: Client, path: bytes) -> None:
    fields = {"prompt": "a windmill", "stream": True, "quality": "low"}
    body = json.dumps(fields).encode() if b"v1" in path else BODY
    client.send(POST % (path, b"1.0", b"Content-Length: %d\r\n\r\n" % len(body)) + body)
    head, _, told = client.read().partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200") and b"transfer-encoding" not in head
    assert b"final" in told or b"completed" in told
    assert told.startswith((b"{", b"data: ", b"event: ", b": ping")) and told[-2:] in (
        b"}}",
        b"\n\n",
    )


@pytest.mark.parametrize(
    ("line", "status"),
    [
        (b"GET http://localhost/v1/models HTTP/1.1", 200),
        (b"GET http://evil.example/v1/models HTTP/1.1", 421),
        (b"OPTIONS * HTTP/1.1", 204),
        (b"OPTIONS /stream HTTP/1.1", 204),
        (b"HEAD /v1/models HTTP/1.1", 200),
        (b"HEAD / HTTP/1.0", 200),
        (b"TRACE / HTTP/1.1", 405),
        (b"get / HTTP/1.1", 400),
        (b"CONNECT localhost:443 HTTP/1.1", 400),
    ],
)
def test_targets_and_methods(client: Client, line: bytes, status: int) -> None:
    client.send(line + b"\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    head, _, body = client.read().partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 %d" % status)
    if line.startswith(b"HEAD"):
        assert body == b""


def test_health_is_told_by_the_address_of_a_pod(application: Application) -> None:
    host = {"host": "10.1.2.3:8000"}
    assert httpx.get(f"{application.url}/health", headers=host).status_code == 200
    assert httpx.head(f"{application.url}/health", headers=host).status_code == 200
    assert httpx.get(application.url, headers=host).status_code == 421


def test_serves_own_paths(application: Application) -> None:
    """KubeRay's readiness probe asks for the one, and the other lists the applications."""
    assert httpx.get(f"{application.url}/-/healthz").text == "success"
    answer = httpx.get(f"{application.url}/-/routes")
    assert answer.status_code == 404 and "glimpse" not in answer.text


@pytest.mark.parametrize(
    "name", ["x-request-id", "x-session-id", "serve_multiplexed_model_id", "traceparent"]
)
@pytest.mark.parametrize("value", [b"\xff\xfe", b"a" * 60_000, b"a b\tERROR forged"])
def test_no_header_of_serves_breaks_a_request_or_reaches_a_log(
    application: Application, name: str, value: bytes
) -> None:
    answer = httpx.get(f"{application.url}/v1/models", headers=[(name.encode(), value)])
    assert answer.status_code == 200
    logs = [path.read_bytes() for path in application.log.parent.rglob("*.log")]
    assert logs and not any(b"a" * 1000 in log or b"ERROR forged" in log for log in logs)


def test_no_header_of_serves_keeps_a_picture_going(application: Application) -> None:
    """With it Serve would not tell the ingress that the client has left."""
    before = wait_until_quiet(application)
    headers = {"x-request-disconnect-disabled": "?1", "x-request-timeout-seconds": "0.001"}
    fields = {**INPUT, "num_inference_steps": 100, "preview_every": 1}
    url = f"{application.url}/stream"
    with httpx.stream("POST", url, json=fields, headers=headers, timeout=60) as answer:
        assert answer.status_code == 200
        next(answer.iter_lines())
    assert wait_until_quiet(application) - before < 100


def test_a_websocket_to_a_wrong_path_is_a_404(application: Application) -> None:
    for path in ("/nothing", "/nobody/nothing/ws", "/stream"):
        with pytest.raises(InvalidStatus) as refused:
            connect(application.url.replace("http", "ws", 1) + path)
        assert refused.value.response.status_code == 404
        assert json.loads(refused.value.response.body)["error_type"] == "not_found"


def test_silent_and_slow_connections_are_closed(application: Application) -> None:
    heads = [b"", b"GET / HT", b"POST / HTTP/1.1\r\nHost: localhost\r\n"]
    with ExitStack() as stack:
        clients = [stack.enter_context(Client(application)) for _ in range(60)]
        for number, each in enumerate(clients):
            each.send(heads[number % len(heads)])
        told = [each.read() for each in clients]
        assert [len(each) > 0 for each in told] == [number % 3 > 0 for number in range(60)]
        assert all(each.startswith(b"HTTP/1.1 408") for each in told if each)
    assert httpx.get(f"{application.url}/health").status_code == 200
