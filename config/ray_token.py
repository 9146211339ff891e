"""`python -m config.ray_token`: makes the token that Ray's own ports ask for, where there is none.

Whoever has the token can run code on every node. Ray makes the same file with the rights that the
umask leaves, so that every user of the machine may read it. Here its owner alone may.
"""

import contextlib
import os
import secrets
import sys
from pathlib import Path


def token_file() -> Path | None:
    """The file that Ray reads its token from. None where the environment has the token itself.

    Raises `ValueError` where RAY_AUTH_TOKEN is white space: Ray then finds no token in any file.
    """
    token = os.environ.get("RAY_AUTH_TOKEN")
    if token:
        if token.isspace():
            raise ValueError("RAY_AUTH_TOKEN is white space, which is no token; unset it")
        return None
    chosen = os.environ.get("RAY_AUTH_TOKEN_PATH")
    return Path(chosen) if chosen else default_file()


def default_file() -> Path:
    return Path.home() / ".ray" / "auth_token"


def create(path: Path) -> bool:
    """Whether there was no token, so that there is a new one now. Raises `OSError`."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with contextlib.suppress(FileNotFoundError):
        if path.read_bytes().strip():  # to Ray, too, white space is no token
            return False
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        os.fchmod(file.fileno(), 0o600)
        file.write(secrets.token_hex(32))
    return True


def keep_from_others() -> bool:
    """Lets the owner alone read Ray's default file. Whether others could until now.

    A file that RAY_AUTH_TOKEN_PATH names keeps the rights that it was given. Raises `OSError`.
    """
    path = default_file()
    if token_file() != path or not path.stat().st_mode & 0o077:
        return False
    path.chmod(0o600)
    return True


def main() -> int:
    try:
        path = token_file()
    except ValueError as error:
        print(error, file=sys.stderr)
        return 1
    if path is None:
        print("Ray's token is in RAY_AUTH_TOKEN")
        return 0
    try:
        made, shared = create(path), keep_from_others()
    except OSError as error:
        print(f"{path}: {error.strerror or 'cannot be written'}", file=sys.stderr)
        return 1
    print(f"Ray's token is {'now ' if made else ''}in {path}")
    if shared:
        print(
            "Other users of this machine could read the file until now. If there are any, remove "
            "the file, run this command again, and start Ray again on every node."
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
