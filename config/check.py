"""`python -m config.check [FILE…]`: every problem of every serve config, one a line.

A file is a serve config, or a Kubernetes manifest whose RayService carries one in `serveConfigV2`.
"""

import argparse
import difflib
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias, get_args

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from config.serve_schema import ServeConfig
from config.settings import ROOT

# Where something stands in a config, such as ("applications", 0, "deployments", 1).
Place: TypeAlias = tuple[str | int, ...]


class Problem(NamedTuple):
    line: int
    message: str


class ConfigError(ValueError):
    """Every problem of one serve config, one a line: `file:line: what`."""

    def __init__(self, path: Path, problems: Iterable[Problem]) -> None:
        super().__init__("\n".join(f"{path}:{line}: {what}" for line, what in sorted(problems)))


def serve_config_paths() -> list[Path]:
    """Every serve config of this repository."""
    profiles = sorted(ROOT.glob("config/profiles/*.yaml"))
    return [ROOT / "serve_config.yaml", *profiles, ROOT / "config/kuberay/rayservice.yaml"]


def load_serve_config(path: Path) -> ServeConfig:
    """The config in a file. Raises `ConfigError` with every problem that it has."""
    try:
        root = _serve_config_node(path.read_text(encoding="utf-8"))
        data = yaml.SafeLoader("").construct_document(root)
    except OSError as error:
        raise ConfigError(path, [Problem(1, error.strerror or str(error))]) from error
    except (UnicodeError, yaml.YAMLError) as error:
        mark = getattr(error, "problem_mark", None)
        what = getattr(error, "problem", None) or str(error)
        raise ConfigError(path, [Problem(mark.line + 1 if mark else 1, f"YAML: {what}")]) from error

    problems = list(_repeated_keys(root, ()))
    try:
        config = ServeConfig.model_validate(data)
    except ValidationError as error:
        problems += _problems(error.errors(include_url=False), dict(_places(root, ())))
    if problems:
        raise ConfigError(path, problems)
    return config


def _serve_config_node(text: str) -> yaml.Node:
    """The YAML tree of the serve config, with the line numbers of the file."""
    documents = list(yaml.compose_all(text, Loader=yaml.SafeLoader))
    for document in documents:
        if getattr(_value(document, "kind"), "value", None) == "RayService":
            embedded = _value(_value(document, "spec"), "serveConfigV2")
            if isinstance(embedded, yaml.ScalarNode):
                # Its text begins on the line after the key's, with the `|`.
                return _serve_config_node("\n" * (embedded.start_mark.line + 1) + embedded.value)
    if len(documents) != 1:
        raise yaml.MarkedYAMLError(problem=f"{len(documents)} documents where one is expected")
    return documents[0]


def _value(node: yaml.Node | None, key: str) -> yaml.Node | None:
    items = node.value if isinstance(node, yaml.MappingNode) else []
    return next((value for name, value in items if name.value == key), None)


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1


def _children(node: yaml.Node) -> Iterator[tuple[str | int, yaml.Node, yaml.Node]]:
    """Each key or index of a node, the node whose line it stands on, and its value."""
    if isinstance(node, yaml.MappingNode):
        yield from ((key.value, key, value) for key, value in node.value)
    elif isinstance(node, yaml.SequenceNode):
        yield from ((index, value, value) for index, value in enumerate(node.value))


def _places(node: yaml.Node, place: Place) -> Iterator[tuple[Place, int]]:
    """The line of everything in the tree."""
    for key, mark, value in _children(node):
        yield (*place, key), _line(mark)
        yield from _places(value, (*place, key))


def _repeated_keys(node: yaml.Node, place: Place) -> Iterator[Problem]:
    """YAML lets the last of two equal keys win; here the second is a mistake."""
    seen = set()
    for key, mark, value in _children(node):
        if key in seen:
            yield Problem(_line(mark), f"key '{key}' twice{_within(place)}")
        seen.add(key)
        yield from _repeated_keys(value, (*place, key))


def _problems(errors: Iterable[ErrorDetails], lines: dict[Place, int]) -> Iterator[Problem]:
    alternatives: dict[Place, list[str]] = {}
    for error in errors:
        place = error["loc"]
        found = _standing(place, lines)
        if error["type"] == "extra_forbidden":
            key, hint = place[-1], _nearest(str(place[-1]), _keys_of(ServeConfig, place[:-1]))
            yield Problem(lines.get(found, 1), f"unknown key '{key}'{_within(place[:-1])}{hint}")
        elif error["type"] == "missing":
            yield Problem(lines.get(found, 1), f"'{place[-1]}' is missing{_within(place[:-1])}")
        else:
            # A value of none of a union's types has an error for each, beyond the same place.
            alternatives.setdefault(found, []).append(_message(error))
    for found, messages in alternatives.items():
        yield Problem(lines.get(found, 1), f"{_name(found) or 'file'}: {'; or '.join(messages)}")


def _message(error: ErrorDetails) -> str:
    message = error["msg"].removeprefix("Value error, ")
    if error["type"] == "model_type":
        message = "Input should be a mapping"
    if error["type"] == "literal_error":
        choices = re.findall(r"'([^']*)'", error["ctx"]["expected"])
        message += _nearest(str(error["input"]), choices)
    return message


def _keys_of(model: type[BaseModel], place: Iterable[str | int]) -> set[str]:
    """The keys that the models allow at a place."""
    models = [model]
    for key in place:
        fields = [m.model_fields[key] for m in models if key in m.model_fields]
        # An index, or a union's tag, leads to no field: the models are those of before.
        models = [m for field in fields for m in _models_in(field.annotation)] or models
    return {key for m in models for key in m.model_fields}


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _models_in(argument)


def _standing(place: Place, lines: dict[Place, int]) -> Place:
    """The part of a place that is in the file."""
    while place and place not in lines:
        place = place[:-1]
    return place


def _nearest(name: str, choices: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, choices, n=1)
    return f"; did you mean '{near[0]}'?" if near else ""


def _within(place: Iterable[str | int]) -> str:
    name = _name(place)
    return f" in {name}" if name else ""


def _name(place: Iterable[str | int]) -> str:
    return "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in place).lstrip(".")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m config.check", description=__doc__)
    parser.add_argument("files", nargs="*", type=Path, help="default: all of this repository")
    paths = parser.parse_args(arguments).files or serve_config_paths()
    failed = 0
    for path in paths:
        try:
            load_serve_config(path)
        except ConfigError as error:
            failed += 1
            print(error)
    print(f"{len(paths) - failed} of {len(paths)} serve configs are right")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
