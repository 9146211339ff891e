"""Paths as the routes see them."""

from starlette.types import Scope

HEALTH = "/health"


def path_in_app(scope: Scope) -> str:
    """Without the prefix that the application is served under."""
    path: str = scope["path"]
    return path.removeprefix(scope.get("root_path", ""))
