"""Short-lived tokens, for clients that must not have a key: browsers, above all.

A token is good for one key's WebSockets and streams of the apps that it names, for an hour at most.
"""

import time
from collections.abc import Callable
from typing import Any

import jwt
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from glimpse.errors import Forbidden, Unauthorized, invalid
from glimpse.fields import whole
from glimpse.http import errors
from glimpse.http.body import read_json_object
from glimpse.keys import KeyRing

ALGORITHM = "HS256"
LONGEST_S = 3600
DEFAULT_S = 120
MAX_BODY_BYTES = 16 * 2**10
MAX_APPS = 16
APPS = "allowed_apps"


def sign(key_id: str, secret: bytes, apps: list[str], lifetime_s: int) -> str:
    claims = {"sub": key_id, "apps": apps, "exp": int(time.time()) + lifetime_s}
    return jwt.encode(claims, secret, ALGORITHM)


def key_id(token: str, secret: bytes, path: str, aliases: tuple[str, ...]) -> str:
    """The key that a token stands for. Raises `Unauthorized` where it is none of ours or has run
    out, `Forbidden` where it is for another app than the one at the path."""
    try:
        claims = jwt.decode(token, secret, [ALGORITHM], options={"require": ["sub", "apps", "exp"]})
    except jwt.ExpiredSignatureError:
        raise Unauthorized("The token has run out; ask for a new one.") from None
    except jwt.InvalidTokenError:
        raise Unauthorized("The token is not one of this server's; ask for a new one.") from None
    place = _place(path, aliases)
    if not any(_leads_to(app, place) for app in claims["apps"]):
        raise Forbidden("The token is for another app than this one.")
    return str(claims["sub"])


def _place(path: str, aliases: tuple[str, ...]) -> str:
    """The path with its app. What is at the root is the first one's."""
    place = path.strip("/")
    if any(place == alias or place.startswith(f"{alias}/") for alias in aliases):
        return place
    return f"{aliases[0]}/{place}"


def _leads_to(app: str, place: str) -> bool:
    """An app is named by its alias alone, by owner/alias, or with a path behind that."""
    if "/" not in app:
        return app == place.split("/")[1]
    return place == app or place.startswith(f"{app}/")


def router(prefix: str, keys: Callable[[], KeyRing], aliases: tuple[str, ...]) -> APIRouter:
    """The routes that fal's clients, and backends written for fal, ask for tokens."""
    routes = APIRouter(
        prefix=f"{prefix}/tokens",
        tags=["tokens"],
        include_in_schema=not prefix,
        responses=errors.documented(*errors.ANYWHERE, *errors.OF_A_BODY, 422),
    )

    async def token(request: Request, lifetime_field: str) -> str:
        fields = await read_json_object(request, MAX_BODY_BYTES)
        lifetime_s = _lifetime(fields, lifetime_field)
        apps = _apps(fields, aliases)
        key = request.state.caller.key
        return sign("anybody" if key is None else key.id, keys().token_secret, apps, lifetime_s)

    @routes.post("/", openapi_extra=_schema("token_expiration", ["miniature"]))
    async def of_an_app(request: Request) -> Response:
        """A token as a JSON string, as fal's clients ask for it before a WebSocket."""
        return JSONResponse(await token(request, "token_expiration"))

    @routes.post("/realtime", openapi_extra=_schema("duration", ["glimpse/miniature/realtime"]))
    async def of_a_path(request: Request) -> Response:
        """A token in an object, as a backend asks for it on behalf of a browser."""
        return JSONResponse({"token": await token(request, "duration")})

    return routes


def _lifetime(fields: dict[str, Any], field: str) -> int:
    lifetime_s = whole(fields.get(field, DEFAULT_S))
    if type(lifetime_s) is not int or not 1 <= lifetime_s <= LONGEST_S:
        raise invalid(field, f"must be a whole number of seconds, 1 to {LONGEST_S}")
    return lifetime_s


def _apps(fields: dict[str, Any], aliases: tuple[str, ...]) -> list[str]:
    apps = fields.get(APPS)
    if not isinstance(apps, list) or not 1 <= len(apps) <= MAX_APPS:
        raise invalid(APPS, f"must be a list of 1 to {MAX_APPS} apps, such as {aliases[0]}")
    for app in apps:
        if not isinstance(app, str) or not _is_ours(app.strip("/"), aliases):
            raise invalid(APPS, f"names an app that is not here; here is {', '.join(aliases)}")
    return [app.strip("/") for app in apps]


def _is_ours(app: str, aliases: tuple[str, ...]) -> bool:
    return any(_leads_to(app, alias) or app.startswith(f"{alias}/") for alias in aliases)


def _schema(lifetime_field: str, apps: list[str]) -> dict[str, Any]:
    fields = {
        APPS: {"type": "array", "items": {"type": "string"}, "minItems": 1, "maxItems": MAX_APPS},
        lifetime_field: {
            "type": "integer",
            "minimum": 1,
            "maximum": LONGEST_S,
            "default": DEFAULT_S,
        },
    }
    body = {
        "schema": {"type": "object", "required": [APPS], "properties": fields},
        "example": {APPS: apps, lifetime_field: DEFAULT_S},
    }
    return {"requestBody": {"required": True, "content": {"application/json": body}}}
