"""Imports diffusers without what a decoder has no use for."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch.compiler

UNUSED = ("transformers", "torch._dynamo")


@contextmanager
def lean_imports() -> Iterator[None]:
    """In here diffusers is imported as if there were no transformers, and no compiler in torch.

    The two are three quarters of what it takes to import an autoencoder: two seconds of a core, in
    every process that only decodes. Not for a process that loads anything else of diffusers, whose
    loaders would stay without transformers. accelerate/hooks.py defers the compiler likewise.
    """
    hidden = [name for name in UNUSED if name not in sys.modules]
    disable = torch.compiler.disable
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]  # None: an ImportError
    # The real one imports torch._dynamo when it decorates.
    torch.compiler.disable = _undecorated  # type: ignore[assignment]
    try:
        yield
    finally:
        torch.compiler.disable = disable
        for name in hidden:
            del sys.modules[name]


def _undecorated(function: Callable[..., Any] | None = None, *_: Any, **__: Any) -> Any:
    """Nothing here is ever compiled, so nothing needs to be kept from it."""
    return function or _undecorated
