"""`deployments.http_server`: what Serve's HTTP server is given before it listens."""

import logging
import re
from typing import Any

import pytest
from ray.serve._private import constants
from ray.serve._private.http_util import validate_http_proxy_callback_return
from ray.serve._private.utils import call_function_from_import_path
from uvicorn import Config
from uvicorn.config import HTTP_PROTOCOLS, WS_PROTOCOLS

from config.settings import ROOT
from deployments.http_server import (
    CALLBACK,
    RESERVED_HEADERS,
    VARIABLE,
    bounded,
    warn_if_unbounded,
)
from glimpse.http.connections import MOST_CONNECTIONS, Bounded, BoundedHTTP, BoundedWebSocket
from glimpse.http.front import Front
from glimpse.http.pacing import Paced
from tests.variables import variables


def test_serve_gets_what_bounds_its_server(monkeypatch: pytest.MonkeyPatch) -> None:
    for protocols in (HTTP_PROTOCOLS, WS_PROTOCOLS):
        monkeypatch.setitem(protocols, "auto", protocols["auto"])  # put back afterwards
    monkeypatch.setattr(Bounded, "crowd", Bounded.crowd)
    middlewares = validate_http_proxy_callback_return(call_function_from_import_path(CALLBACK))
    assert [middleware.cls for middleware in middlewares] == [Paced, Front]
    config = Config(lambda: None, factory=True, log_config=None)  # as Serve makes it
    config.load()
    assert config.http_protocol_class is BoundedHTTP
    assert config.ws_protocol_class is BoundedWebSocket


def test_it_is_called_as_make_serve_runs_it() -> None:
    assert variables(ROOT / "config" / "serve.env")[VARIABLE] == CALLBACK


@pytest.mark.parametrize(("value", "warnings"), [(CALLBACK, 0), ("another:one", 1), (None, 1)])
def test_an_ingress_warns_where_it_is_not(
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    value: str | None,
    warnings: int,
) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    if value is not None:
        monkeypatch.setenv(VARIABLE, value)
    with caplog.at_level(logging.WARNING):
        warn_if_unbounded()
    assert caplog.text.count(f"set {VARIABLE}={CALLBACK}") == warnings


def taken(monkeypatch: pytest.MonkeyPatch, address: str | None, most: int) -> int:
    """How many connections there may be, of at most so many that come."""
    for protocols in (HTTP_PROTOCOLS, WS_PROTOCOLS):
        monkeypatch.setitem(protocols, "auto", protocols["auto"])
    monkeypatch.setattr(Bounded, "crowd", Bounded.crowd)
    bounded()
    crowd: Any = Bounded.crowd
    for number in range(most):
        crowd.enter(number, address)
    return len(crowd)


def test_how_many_connections_there_may_be_is_a_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    assert taken(monkeypatch, "1.2.3.4", 2 * MOST_CONNECTIONS) == MOST_CONNECTIONS
    monkeypatch.setenv("GLIMPSE_MAX_CONNECTIONS", "7")
    assert taken(monkeypatch, "1.2.3.4", 20) == 7
    monkeypatch.setenv("GLIMPSE_MAX_CONNECTIONS_PER_ADDRESS", "3")
    assert taken(monkeypatch, "1.2.3.4", 20) == 3
    assert taken(monkeypatch, None, 20) == 7


@pytest.mark.parametrize(
    "value", ["", "0", "-1", "many", "1.5", "٣", "9" * 20, "1000001", "0000010000001"]
)
@pytest.mark.parametrize(
    "variable", ["GLIMPSE_MAX_CONNECTIONS", "GLIMPSE_MAX_CONNECTIONS_PER_ADDRESS"]
)
def test_a_variable_that_is_no_number_is_named(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(ValueError, match=f"{variable} must be a whole number"):
        bounded()


def test_what_serve_reads_from_headers_is_reserved() -> None:
    """As its source names them; one that a new version adds has to be looked at."""
    found = {
        str(value)
        for name, value in vars(constants).items()
        if re.fullmatch(r"SERVE_(\w+_)?(HEADER|HEADER_PREFIX|MODEL_ID|SESSION_ID)", name)
    }
    assert found == {"x-request-id", *(name.removesuffix("*") for name in RESERVED_HEADERS)}
