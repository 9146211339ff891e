"""Threads for input pictures: to look at them, and to read them."""

import asyncio
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any, TypeVar

from glimpse.generation import SessionMemory
from glimpse.input_pictures.inspection import InputPicture
from glimpse.input_pictures.masks import read_mask, read_with_holes
from glimpse.input_pictures.reading import read_pixels
from glimpse.ports import InputPixels
from glimpse.request import GenerationRequest

LARGE_PIXELS = 4 * 2**20
MAY_BE_LARGER = ("AVIF", "HEIF")  # than their headers say; only the decoder finds out
NICENESS = 10
"""Of the thread that reads large pictures: a tenth of a core where others want all of it."""


def _give_way() -> None:
    """On Linux niceness is a thread's own; threads that a decoder starts inherit it."""
    thread = threading.get_native_id()
    mine = os.getpriority(os.PRIO_PROCESS, thread)
    os.setpriority(os.PRIO_PROCESS, thread, max(mine, NICENESS))


LOOKERS = ThreadPoolExecutor(2, "look at pictures")
READERS = ThreadPoolExecutor(2, "read pictures")
LARGE_READER = ThreadPoolExecutor(1, "read large pictures", initializer=_give_way)
"""One at a time: some take hundreds of megabytes and a second (docs/security.md)."""

T = TypeVar("T")


async def look(work: Callable[..., T], *arguments: Any) -> T:
    """For work of milliseconds, before admission."""
    return await asyncio.wrap_future(LOOKERS.submit(work, *arguments))


async def read(picture: InputPicture, work: Callable[..., T], *arguments: Any) -> T:
    """Calls `work(picture, *arguments)`. Whoever is cancelled meanwhile waits until the thread is
    done, and holds its place until then: a client that leaves must not make room for its next."""
    large = picture.pixels > LARGE_PIXELS or picture.format in MAY_BE_LARGER
    begun = (LARGE_READER if large else READERS).submit(work, picture, *arguments)
    reading = asyncio.wrap_future(begun)
    cancelled = False
    while not reading.done():
        try:
            await asyncio.wait({reading})
        except asyncio.CancelledError:
            cancelled = True
            begun.cancel()  # of no effect once the thread is at it
    if cancelled:
        if not reading.cancelled():
            reading.exception()
        raise asyncio.CancelledError
    return reading.result()


async def read_pictures(
    request: GenerationRequest, memory: SessionMemory, cell: int
) -> tuple[GenerationRequest, InputPixels | None]:
    """The pictures of a request at its size, but for those that the session has read before, and
    the request with what there is to say about them. `cell` is the side of a latent in pixels.

    Raises `InvalidRequest` for a picture that turns out to be damaged.
    """
    kept, memory.read = memory.read, {}

    async def once(picture: InputPicture, work: Callable[..., Any], *how: Any) -> Any:
        key = (picture, *how)
        memory.read[key] = kept[key] if key in kept else await read(picture, work, *how)
        return memory.read[key]

    image, mask = request.image, request.mask
    if image is None:
        return request, None
    for picture in (image, mask):
        if picture is not None:
            request = replace(request, warnings=(*request.warnings, *picture.warnings))
    size = request.width, request.height
    if mask is not None and mask.data is image.data and request.mask_of == "transparent":
        pixels, found = await read(image, read_with_holes, mask.field, *size, cell)
    else:
        pixels = await once(image, read_pixels, *size)
        if mask is None:
            return request, InputPixels(pixels, None)
        found = await once(mask, read_mask, *size, cell, request.mask_of)
    warned = replace(request, warnings=(*request.warnings, *found.warnings))
    return warned, InputPixels(pixels, found.cells)
