"""`python -m config.keys create NAME`: makes an API key, prints it once and keeps its hash.

Also `list`, and `revoke NAME`. The file is the one that `access.keys_file` of a serve config names;
a server that runs reads it again when it changes.
"""

import argparse
import os
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

from pydantic import AwareDatetime, Field, PositiveInt, StringConstraints, ValidationError

from config.settings import ROOT, AccessSettings, Settings
from glimpse.keys import Key, KeyRing, Limits, digest_of, new_key, new_token_secret

Name = Annotated[str, StringConstraints(pattern=r"^[\w.-]{1,64}$")]


class KeyRecord(Settings):
    """A key as it is kept. A limit that is left out is that of the serve config."""

    name: Name
    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    created: AwareDatetime
    requests_per_minute: PositiveInt | None = None
    concurrent_requests: PositiveInt | None = None
    sessions: PositiveInt | None = None
    pictures: PositiveInt | None = None


class KeysFile(Settings):
    """`token_secret` signs the tokens of browsers: whoever has it comes in, so keep the file as
    safe as a key."""

    token_secret: str = Field(min_length=32)
    keys: tuple[KeyRecord, ...] = ()

    def ring(self, settings: AccessSettings) -> KeyRing:
        return KeyRing(
            tuple(_key(record, settings) for record in self.keys), self.token_secret.encode()
        )


class KeysError(ValueError):
    """What is wrong with the keys' file, or with what is wanted of it."""


def keys_path(settings: AccessSettings) -> Path | None:
    return None if settings.keys_file is None else ROOT / settings.keys_file


def read_keys(path: Path) -> KeysFile:
    """Raises `KeysError`; it never shows what is in the file."""
    try:
        return KeysFile.model_validate_json(path.read_bytes())
    except OSError as error:
        reason = error.strerror or "cannot be read"
        make = f"python -m config.keys --file {path} create NAME makes it"
        raise KeysError(f"{path}: {reason}; {make}") from None
    except ValidationError as error:
        places = {".".join(map(str, each["loc"])) or "all of it" for each in error.errors()}
        raise KeysError(f"{path}: wrong in {', '.join(sorted(places))}") from None


def create(path: Path, name: str, limits: dict[str, int | None]) -> str:
    """The new key, which is kept nowhere."""
    file = read_keys(path) if path.exists() else KeysFile(token_secret=new_token_secret())
    if any(record.name == name for record in file.keys):
        raise KeysError(f"there is a key {name} already")
    key = new_key()
    try:
        record = KeyRecord.model_validate(
            {
                "name": name,
                "sha256": digest_of(key),
                "created": datetime.now(UTC).replace(microsecond=0),
                **limits,
            }
        )
    except ValidationError as error:
        raise KeysError("; ".join(f"{e['loc'][0]}: {e['msg']}" for e in error.errors())) from None
    _write(path, KeysFile(token_secret=file.token_secret, keys=(*file.keys, record)))
    return key


def revoke(path: Path, name: str) -> None:
    """Takes the key away, and with it its tokens."""
    file = read_keys(path)
    left = tuple(record for record in file.keys if record.name != name)
    if left == file.keys:
        raise KeysError(f"there is no key {name}")
    _write(path, KeysFile(token_secret=file.token_secret, keys=left))


def _key(record: KeyRecord, settings: AccessSettings) -> Key:
    return Key(
        record.name,
        record.sha256,
        Limits(
            record.requests_per_minute or settings.requests_per_minute,
            record.concurrent_requests or settings.concurrent_requests,
            record.sessions or settings.sessions,
            record.pictures or settings.pictures,
        ),
    )


def _write(path: Path, file: KeysFile) -> None:
    """All or nothing, as a server may read it at any time. For its owner's eyes only."""
    with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False) as beside:
        beside.write(file.model_dump_json(indent=2, exclude_none=True) + "\n")
    os.replace(beside.name, path)


def _line(record: KeyRecord) -> str:
    limits = record.model_dump(exclude={"name", "sha256", "created"}, exclude_none=True)
    told = " ".join(f"{limit}={most}" for limit, most in limits.items())
    return f"{record.name}  {record.created:%Y-%m-%d}  {told}".rstrip()


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m config.keys", description=__doc__)
    parser.add_argument("--file", type=Path, default=ROOT / "keys.json", help="default: keys.json")
    commands = parser.add_subparsers(dest="command", required=True)
    creating = commands.add_parser("create", help="make a key, and print it this once")
    creating.add_argument("name")
    for limit in ("requests_per_minute", "concurrent_requests", "sessions", "pictures"):
        creating.add_argument(f"--{limit.replace('_', '-')}", type=int)
    commands.add_parser("list", help="print each key's name, day and own limits")
    commands.add_parser("revoke", help="take a key away").add_argument("name")
    chosen = vars(parser.parse_args(arguments))
    path, command = chosen.pop("file"), chosen.pop("command")
    try:
        if command == "create":
            print(create(path, chosen.pop("name"), chosen))
        elif command == "revoke":
            revoke(path, chosen["name"])
        else:
            for record in read_keys(path).keys:
                print(_line(record))
    except KeysError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
