"""`glimpse.http.http1`: requests that RFC 9110 and RFC 9112 allow, and those that they do not."""

import pytest

from tests.unit.glimpse.http.wire import Answer, Wire, chunks, connected, echo, settled

OFFER = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAEAAEAAAAIA\r\n"
HANDSHAKE = (
    b"Host: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)


async def sent(*reads: bytes) -> Wire:
    wire = connected(echo)
    for read in reads:
        wire.protocol.data_received(read)
        await settled()
    wire.protocol.connection_lost(None)
    await settled()
    return wire


async def answered(*reads: bytes) -> Answer:
    return Answer((await sent(*reads)).written)


def post(body: bytes, headers: bytes = b"", target: bytes = b"/stream") -> bytes:
    return b"POST %b HTTP/1.1\r\nHost: a\r\n%bContent-Length: %d\r\n\r\n%b" % (
        target,
        headers,
        len(body),
        body,
    )


# Offers of another protocol


@pytest.mark.parametrize(
    "offer",
    [
        OFFER,  # Java 17's HttpClient, curl --http2
        b"Upgrade: h2c\r\nConnection: keep-alive\r\nConnection: Upgrade\r\n",
        b"upgrade: H2C, h2\r\nconnection: upgrade\r\n",
        b"Upgrade: TLS/1.2\r\nConnection: Upgrade\r\n",
        b"Upgrade: websocket\r\nConnection: Upgrade\r\n",  # no handshake is a POST
    ],
)
@pytest.mark.parametrize("size", [1, 50, 10_000])
async def test_a_request_that_offers_another_protocol_keeps_its_body_and_its_connection(
    offer: bytes, size: int
) -> None:
    request = post(b'{"prompt": 1}', offer)
    reads = [request[start : start + size] for start in range(0, len(request), size)]
    wire = await sent(*reads, post(b"second", target=b"/second"), post(b"third", offer))
    answers = [Answer(wire.written)]
    answers += [Answer(answers[-1].rest)]
    answers += [Answer(answers[-1].rest)]
    assert [answer.status for answer in answers] == [200] * 3
    assert [answer.said["body"] for answer in answers] == ['{"prompt": 1}', "second", "third"]
    assert [answer.said["path"] for answer in answers] == ["/stream", "/second", "/stream"]
    names = {name for name, _ in answers[0].said["headers"]}
    assert not {"upgrade", "http2-settings"} & names
    assert "connection" not in answers[0].headers


async def test_a_request_in_chunks_that_offers_another_protocol() -> None:
    head = b"POST / HTTP/1.1\r\nHost: a\r\n" + OFFER + b"Transfer-Encoding: chunked\r\n\r\n"
    answer = await answered(head + b"3\r\nabc\r\n", b"2;a=b\r\nde\r\n0\r\n\r\n")
    assert answer.said["body"] == "abcde"


async def test_several_requests_in_one_read_all_with_an_offer() -> None:
    wire = await sent(post(b"1", OFFER) + post(b"2", OFFER) + post(b"3"))
    first = Answer(wire.written)
    second = Answer(first.rest)
    assert [first.said["body"], second.said["body"]] == ["1", "2"]
    assert Answer(second.rest).said["body"] == "3"


async def test_an_offer_and_a_wish_to_close() -> None:
    wire = await sent(post(b"1", b"Upgrade: h2c\r\nConnection: close, Upgrade\r\n"))
    assert Answer(wire.written).headers["connection"] == "close" and wire.closed


@pytest.mark.parametrize(
    "connection",
    [
        b"Connection: Upgrade\r\n",
        b"Connection: keep-alive, upgrade\r\n",
        b"Connection: Upgrade\r\nConnection: keep-alive\r\n",
        b"Connection: keep-alive\r\nConnection: Upgrade\r\n",
    ],
)
async def test_a_websockets_handshake_is_one_however_it_is_spelt(connection: bytes) -> None:
    handshake = HANDSHAKE.replace(b"Connection: Upgrade\r\n", connection)
    for target in (b"/ws", b"http://a/ws"):
        answer = await answered(b"GET %b HTTP/1.1\r\n%b\r\n" % (target, handshake))
        assert (answer.status, answer.headers["x-path"]) == (101, "/ws")


@pytest.mark.parametrize(
    "extra", [b"X-A: " + b"a" * 9000 + b"\r\n", b"".join(b"X-%d: a\r\n" % n for n in range(200))]
)
async def test_a_handshake_that_is_too_large_is_answered(extra: bytes) -> None:
    wire = await sent(b"GET /ws HTTP/1.1\r\n" + HANDSHAKE + extra + b"\r\n")
    assert Answer(wire.written).status == 431 and wire.closed


async def test_a_websocket_is_opened_where_another_protocol_is_offered_too() -> None:
    handshake = HANDSHAKE.replace(b"Upgrade: websocket", b"Upgrade: h2c, WebSocket")
    assert (await answered(b"GET /ws HTTP/1.1\r\n%b\r\n" % handshake)).status == 101


# Headers


async def test_white_space_around_a_value_is_no_part_of_it() -> None:
    head = b"POST / HTTP/1.1\r\nHost: \ta \t\r\nOrigin:http://b \r\nExpect: 100-continue \r\n"
    wire = await sent(head + b"Content-Length: 1 \r\n\r\n", b"a")
    assert wire.written.startswith(b"HTTP/1.1 100 Continue\r\n\r\n")
    headers = dict(Answer(Answer(wire.written).rest).said["headers"])
    assert (headers["host"], headers["origin"]) == ("a", "http://b")


@pytest.mark.parametrize(
    "host", [b"", b"a", b"A_b.example:8000", b"10.0.0.1:80", b"[::1]", b"[fe80::1%25eth0]:80"]
)
async def test_a_host_is_a_name_or_an_address(host: bytes) -> None:
    said = (await answered(b"GET / HTTP/1.1\r\nHost: %b\r\n\r\n" % host)).said
    assert said["headers"] == [["host", host.decode()]]


@pytest.mark.parametrize(
    "host",
    [
        b"a b",
        b"b@a",
        b"a/b",
        b"a?b",
        b"a#b",
        b"a:b",
        b"a:1:2",
        b"[::1",
        b"::1",
        b"a,b",
        b"\xc3\xbc",
    ],
)
async def test_any_other_host_is_malformed(host: bytes) -> None:
    answer = await answered(b"GET / HTTP/1.1\r\nHost: %b\r\n\r\n" % host)
    assert answer.status == 400 and "a name or an address" in answer.said["message"]


# Targets


@pytest.mark.parametrize(
    ("target", "path", "query", "host"),
    [
        (b"/stream", "/stream", "", "a"),
        (b"/stream?x=1", "/stream", "x=1", "a"),
        (b"/%73tream", "/stream", "", "a"),
        (b"http://other.example:8000/stream?x=1", "/stream", "x=1", "other.example:8000"),
        (b"HTTP://other.example/stream", "/stream", "", "other.example"),
        (b"https://[::1]:8443/stream", "/stream", "", "[::1]:8443"),
        (b"http://other.example", "/", "", "other.example"),
        (b"http://other.example?x=1", "/", "x=1", "other.example"),
    ],
)
async def test_a_target_may_be_in_absolute_form_and_its_host_counts(
    target: bytes, path: str, query: str, host: str
) -> None:
    said = (await answered(post(b"", target=target))).said
    assert (said["path"], said["query"]) == (path, query)
    assert [value for name, value in said["headers"] if name == "host"] == [host]


@pytest.mark.parametrize("target", [b"*", b"http://a"])
async def test_options_of_the_whole_server(target: bytes) -> None:
    said = (await answered(b"OPTIONS %b HTTP/1.1\r\nHost: a\r\n\r\n" % target)).said
    assert (said["method"], said["path"]) == ("OPTIONS", "/*")


# Old clients


@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
async def test_http_1_0_gets_no_chunks(version: bytes) -> None:
    wire = connected(chunks)
    wire.protocol.data_received(b"GET / HTTP/%b\r\nHost: a\r\n\r\n" % version)
    await settled()
    answer = Answer(wire.written)
    if version == b"1.1":
        assert answer.headers["transfer-encoding"] == "chunked" and not wire.closed
        assert answer.body == b"1\r\na\r\n1\r\nb\r\n0\r\n\r\n"
    else:
        assert "transfer-encoding" not in answer.headers and wire.closed
        assert answer.body == b"ab"
    wire.protocol.connection_lost(None)


async def test_http_1_0_names_no_host_and_hears_nothing_before_its_answer() -> None:
    request = b"POST / HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n"
    wire = await sent(request, b"a")
    assert Answer(wire.written).said["body"] == "a" and wire.closed
    assert wire.written.count(b"HTTP/1.1") == 1


async def test_http_1_1_is_told_to_continue() -> None:
    wire = await sent(b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-Continue\r\n", b"")
    assert not wire.written
    request = b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-Continue\r\nContent-Length: 1\r\n\r\n"
    wire = await sent(request, b"a")
    assert wire.written.startswith(b"HTTP/1.1 100 Continue\r\n\r\n")
    assert Answer(Answer(wire.written).rest).said["body"] == "a"


# Bodies


async def test_trailers_are_no_headers() -> None:
    head = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTE: trailers\r\n\r\n"
    trailers = b"0\r\nHost: b\r\nAuthorization: Key k\r\nX-A: b\r\n\r\n"
    for reads in ([head + b"1\r\na\r\n" + trailers], [head, b"1\r\na\r\n", trailers]):
        answer = await answered(*reads, post(b"next"))
        assert answer.said["body"] == "a"
        assert {name for name, _ in answer.said["headers"]} == {"host", "transfer-encoding", "te"}
        assert Answer(answer.rest).said["body"] == "next"


async def test_a_body_where_none_is_expected_leaves_the_connection_usable() -> None:
    get = b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody"
    answer = await answered(get, post(b"next"))
    assert answer.status == 200 and Answer(answer.rest).said["body"] == "next"


# What is malformed


@pytest.mark.parametrize(
    ("request_", "sentence"),
    [
        (b"get / HTTP/1.1\r\nHost: a\r\n\r\n", "method"),
        (b"MAKE / HTTP/1.1\r\nHost: a\r\n\r\n", "method"),
        (b"GET / HTTP/1.1\r\n\r\n", "Send the header Host, once."),
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", "Send the header Host, once."),
        (
            b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n" + OFFER + b"\r\n",
            "Send the header Host, once.",
        ),
        (b"GET * HTTP/1.1\r\n" + OFFER + b"Host: a\r\n\r\n", "must be a path"),
        (b"GET * HTTP/1.1\r\nHost: a\r\n\r\n", "must be a path"),
        (b"GET ftp://a/b HTTP/1.1\r\nHost: a\r\n\r\n", "must be a path"),
        (b"GET http://b@a/ HTTP/1.1\r\nHost: a\r\n\r\n", "must be a path"),
        (b"GET http://:b/ HTTP/1.1\r\nHost: a\r\n\r\n", "must be a path"),
        (b"CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n", "CONNECT is not served"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX-A: b\r\n c\r\n\r\n", "whitespace"),  # obs-fold
        (b"GET / HTTP/1.1\r\nHost : a\r\n\r\n", "header"),
        (b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", "Content"),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1, 1\r\n\r\n", "Content-Length"),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n", "Content-Length"),
        (
            b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            "Transfer-Encoding",
        ),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n", "Transfer-Encoding"),
        (b"GET / HTTP/3.0\r\nHost: a\r\n\r\n", "version"),
        (b"GET / HTTP/2.0\r\nHost: a\r\n\r\n", "The server speaks HTTP/1.1"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "The server speaks HTTP/1.1"),
        (b"\x16\x03\x01\x02\x00\x01\x00", "method"),  # TLS, where there is none
    ],
)
async def test_what_is_malformed_is_told_in_a_sentence(request_: bytes, sentence: str) -> None:
    wire = await sent(request_)
    answer = Answer(wire.written)
    assert (answer.status, answer.headers["connection"]) == (400, "close") and wire.closed
    assert answer.headers["content-type"] == "application/json"
    assert answer.said["error_type"] == "bad_request"
    assert sentence in answer.said["message"] == answer.said["detail"]
