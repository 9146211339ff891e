"""`deployments.handles`: how a job goes to its denoiser."""

import asyncio
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from deployments.handles import MOST_PIXELS_BY_VALUE, RayDenoiser, Watch
from deployments.references import NotKept, Reference
from deployments.replicas import replicas_of
from glimpse.meter import Unmetered
from glimpse.ports import DenoiseOptions, Job, Priority, StepEvent

JOB = Job("j", 128, 128, 4, 4.5, 7, "euler", 1.0)
OPTIONS = DenoiseOptions(priority=Priority.REALTIME, deadline_s=None)
LAST = StepEvent(4, 4, denoise_s=0.1)


class Ref:
    def hex(self) -> str:
        return f"{id(self):x}"


def reference() -> Reference:
    return [Ref()]


class Response(asyncio.Future[StepEvent]):
    """Of one answer, or of a stream of one."""

    taken = False

    async def __anext__(self) -> StepEvent:
        if self.taken:
            raise StopAsyncIteration
        self.taken = True
        return await self


@dataclass(frozen=True)
class Handle:
    """Remembers its calls: with which options, of which method, and what was sent."""

    app_name = "test"
    deployment_name = "Handles"

    calls: list[tuple[dict[str, Any], str, Any]] = field(default_factory=list)
    failures: list[Exception] = field(default_factory=list)  # of the next calls, one each
    chosen: dict[str, Any] = field(default_factory=dict)
    method: str = ""

    def options(self, **chosen: Any) -> "Handle":
        return replace(self, chosen=self.chosen | chosen)

    def __getattr__(self, method: str) -> "Handle":
        return replace(self, method=method)

    def remote(self, job: Job, inputs: Any, options: DenoiseOptions) -> Response:
        self.calls.append((self.chosen, self.method, inputs))
        response = Response()
        if self.failures:
            response.set_exception(self.failures.pop(0))
        else:
            response.set_result(LAST)
        return response


async def run(denoiser: RayDenoiser, text: Reference, job: Job = JOB, **changes: Any) -> None:
    options = replace(OPTIONS, **changes)
    async with aclosing(denoiser.denoise(job, text, None, options)) as events:
        assert [event async for event in events] == [LAST]


def made() -> tuple[Any, RayDenoiser]:
    handle: Any = Handle()
    replicas_of("test", "Handles").update({"a": healthy})
    return handle, RayDenoiser(handle, "denoise", Watch(5, Unmetered()))


async def healthy() -> None:
    return


async def test_a_sessions_next_job_with_the_same_text_goes_by_value() -> None:
    handle, denoiser = made()
    text, other = reference(), reference()
    for each in (text, text, other, other):
        await run(denoiser, each, session="s")
    by_reference = [chosen["_by_reference"] for chosen, _, _ in handle.calls]
    assert by_reference == [True, False, True, False]
    assert [inputs.references is None for *_, inputs in handle.calls] == [False, True, False, True]
    assert {chosen["session_id"] for chosen, *_ in handle.calls} == {"s"}


async def test_pictures_of_one_message_do_not_rely_on_each_other() -> None:
    handle, denoiser = made()
    text = reference()
    options = replace(OPTIONS, session="s")
    async with aclosing(denoiser.denoise(JOB, text, None, options)) as first:
        assert await anext(first) == LAST  # and it has not come to its end
        await run(denoiser, text, session="s")
    assert [inputs.references is None for *_, inputs in handle.calls] == [False, False]


async def test_another_session_none_and_a_large_picture_go_by_reference() -> None:
    handle, denoiser = made()
    text = reference()
    await run(denoiser, text, session="s")
    await run(denoiser, text, session="another")
    await run(denoiser, text)
    await run(denoiser, text)
    large = replace(JOB, width=1024, height=MOST_PIXELS_BY_VALUE // 1024 + 8)
    await run(denoiser, text, large, session="s")
    assert all(chosen["_by_reference"] for chosen, *_ in handle.calls)
    assert all(inputs.references is not None for *_, inputs in handle.calls)


async def test_only_what_has_more_to_tell_than_its_end_is_a_stream() -> None:
    handle, denoiser = made()
    await run(denoiser, reference())
    await run(denoiser, reference(), emit_at=frozenset({1}))
    [(one, one_method, _), (stream, stream_method, _)] = handle.calls
    assert "stream" not in one and one_method == "denoise_to_the_end"
    assert stream["stream"] and stream_method == "denoise"


async def test_inputs_that_the_sessions_replica_does_not_have_are_sent_and_nothing_is_lost(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """After a session moved. No encoder is asked again for it, and no stage called lost."""
    handle, denoiser = made()
    text = reference()
    await run(denoiser, text, session="s")
    handle.failures.append(NotKept())
    await run(denoiser, text, session="s")
    assert [inputs.references is None for *_, inputs in handle.calls] == [False, True, False]
    assert caplog.records == []


async def test_a_call_waits_until_there_is_a_replica() -> None:
    handle, denoiser = made()
    replicas_of("test", "Handles").update({})
    running = asyncio.create_task(run(denoiser, reference()))
    await asyncio.sleep(0.01)
    assert handle.calls == []
    replicas_of("test", "Handles").update({"b": healthy})
    async with asyncio.timeout(5):
        await running
    assert len(handle.calls) == 1
