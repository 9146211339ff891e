"""uvicorn's HTTP/1, for all that RFC 9110 and RFC 9112 let a client send."""

import json
import re
import sys
from http import HTTPStatus
from typing import Any

from httptools import HttpParserUpgrade, HttpRequestParser
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

ABSOLUTE_FORM = re.compile(rb"https?://([^/?#]+)([/?].*)?", re.IGNORECASE | re.DOTALL)
# Of RFC 3986, a name or an address without a user; the header may be empty (RFC 9112, section 3.2).
HOST = re.compile(rb"(\[[\w:.%~!$&'()*+,;=-]+\]|[\w.%~!$&'()*+;=-]*)(:[0-9]*)?")
OFFER = (b"upgrade", b"http2-settings")  # the headers of an offer; `Connection` names them, too
OTHER_VERSION = "The server speaks HTTP/1.1; send the request so."
WHOLE_SERVER = b"/*"  # the path in place of `*`, as an application's paths begin with a slash


class Malformed(ValueError):
    """The sentence that the client of a malformed request is told."""


def refusal(status: HTTPStatus, code: str, message: str, *headers: bytes) -> bytes:
    """An answer that no application makes, in the form of all our errors. The connection has to be
    closed behind it."""
    content = {"detail": message, "message": message, "error_type": code}
    body = json.dumps(content).encode()
    lines = (
        b"HTTP/1.1 %d %b" % (status, status.phrase.encode()),
        b"content-type: application/json",
        b"content-length: %d" % len(body),
        b"connection: close",
        *headers,
        b"",
        body,
    )
    return b"\r\n".join(lines)


class _Parser(HttpRequestParser):
    """Parses a request that offers another protocol a second time, without the offer.

    llhttp takes each offer for a switch, and the body of the request for the other protocol's. An
    offer may be ignored (RFC 9110, section 7.8), and of all but WebSocket ours are.
    """

    def __init__(self, connection: "HTTP1") -> None:
        super().__init__(connection)
        # As uvicorn sets its own up, so that a request that ends the connection is answered.
        self.set_dangerous_leniencies(lenient_data_after_close=True)
        self._connection = connection

    def feed_data(self, data: Any) -> None:
        connection = self._connection
        try:
            super().feed_data(data)
            return
        except HttpParserUpgrade as offer:
            if connection.opens_websocket:
                raise
            rest = bytes(data[offer.args[0] :])
        # Another parser: for this one the connection may have ended with the offer.
        connection.parser = _Parser(connection)
        connection.parser.feed_data(connection.head_without_offer() + rest)


class HTTP1(HttpToolsProtocol):
    """Takes what uvicorn does not: offers of `h2c`, targets in absolute form, `OPTIONS *`, fields
    of `Connection` and `Upgrade` on several lines. Trailers are no headers, and HTTP/1.0 gets no
    chunks. What is malformed is told in a sentence.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.parser = _Parser(self)
        self._method = b""
        self._version = ""
        self._in_head = False
        self.comes_again = False  # the request, without its offer of another protocol
        self.opens_websocket = False

    def head_without_offer(self) -> bytes:
        lines = [b"%b %b HTTP/%b" % (self._method, self.url, self._version.encode())]
        for name, value in self.headers:
            if name == b"connection":
                value = b", ".join(token for token in _tokens(value) if token not in OFFER)
            if name not in OFFER:
                lines.append(b"%b: %b" % (name, value))
        return b"\r\n".join((*lines, b"", b""))

    def send_400_response(self, msg: str) -> None:
        failure = sys.exception()  # of the parser; none where the request was parsed
        if failure is not None:
            msg = f"The request is not valid HTTP/1.1: {failure}."
            if isinstance(failure.__context__, Malformed):
                msg = str(failure.__context__)
            elif "PRI" in str(failure):  # HTTP/2, by a client that has not asked
                msg = OTHER_VERSION
        self.transport.write(refusal(HTTPStatus.BAD_REQUEST, "bad_request", msg))
        self.transport.close()

    def _should_upgrade(self) -> bool:
        return self.opens_websocket

    def _is_handshake(self) -> bool:
        """Of a WebSocket (RFC 6455, section 4.1)."""
        return (
            self.parser.should_upgrade()
            and self._method == b"GET"
            and self._version == "1.1"
            and b"websocket" in self._tokens(b"upgrade")
            and self._should_upgrade_to_ws()
        )

    def _tokens(self, header: bytes) -> list[bytes]:
        return _tokens(b",".join(value for name, value in self.headers if name == header))

    # What the parser calls. What these raise is answered with 400.

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head = True

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._in_head:
            super().on_header(name, value.strip(b" \t"))  # white space is no part of it

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._method = self.parser.get_method()
        self._version = self.parser.get_http_version()
        if self._method == b"CONNECT":
            raise Malformed("CONNECT is not served here.")
        if not self._version.startswith("1."):
            raise Malformed(OTHER_VERSION)
        self.opens_websocket = self._is_handshake()
        self.comes_again = self.parser.should_upgrade() and not self.opens_websocket
        if self.comes_again:
            return
        if self.opens_websocket:  # websockets takes no second offer beside this one
            others = [header for header in self.headers if header[0] != b"upgrade"]
            self.headers[:] = [*others, (b"upgrade", b"websocket")]
        self._check_host()
        self._read_target()
        old = self._version != "1.1"
        if old:
            self.expect_100_continue = False  # nobody of that time waits (RFC 9110, 10.1.1)
        super().on_headers_complete()
        if old:
            self.cycle.send = _Unchunked(self.cycle).send  # type: ignore[method-assign]

    def on_message_complete(self) -> None:
        if not self.comes_again:
            super().on_message_complete()

    def _check_host(self) -> None:
        hosts = [value for name, value in self.headers if name == b"host"]
        if len(hosts) > 1 or (not hosts and self._version == "1.1"):
            raise Malformed("Send the header Host, once.")
        if not all(HOST.fullmatch(host) for host in hosts):
            raise Malformed("The header Host must be a name or an address, and may have a port.")

    def _read_target(self) -> None:
        """Leaves a path and a query in `url` (RFC 9112, section 3.2)."""
        if self.url.startswith(b"/"):
            return
        if self.url == b"*" and self._method == b"OPTIONS":
            self.url = WHOLE_SERVER
            return
        absolute = ABSOLUTE_FORM.fullmatch(self.url)
        if absolute is None or not HOST.fullmatch(absolute[1]):
            raise Malformed("The target of the request must be a path, such as /stream.")
        host, path = absolute.groups(b"")
        others = [header for header in self.headers if header[0] != b"host"]
        self.headers[:] = [(b"host", host), *others]
        if not path and self._method == b"OPTIONS":
            self.url = WHOLE_SERVER
        else:
            self.url = path if path.startswith(b"/") else b"/" + path


class _Unchunked:
    """An answer to HTTP/1.0, which knows no chunks (RFC 9112, section 6.1). Where its length is not
    known, the end of the connection is its end; uvicorn keeps none open that began with 1.0."""

    def __init__(self, cycle: RequestResponseCycle) -> None:
        self._cycle = cycle
        self._send = cycle.send
        self._sized = False

    async def send(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            headers = message.get("headers", ())
            self._sized = any(name.lower() == b"content-length" for name, _ in headers)
            if not self._sized:
                self._cycle.chunked_encoding = False
        elif not self._sized:
            self._cycle.expected_content_length = len(message.get("body", b""))
        await self._send(message)


def _tokens(value: bytes) -> list[bytes]:
    """Of a list in a header (RFC 9110, section 5.6.1), in lower case."""
    return [token.strip().lower() for token in value.split(b",") if token.strip()]
