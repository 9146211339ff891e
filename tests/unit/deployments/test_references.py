"""`deployments.references`: what jobs are made from, taken by reference once a session."""

import asyncio
from typing import Any

import pytest

from deployments.references import (
    KEPT_SESSIONS,
    Inputs,
    KeptInputs,
    NotKept,
    Reference,
    reference_to,
)
from glimpse.errors import StageLost


class Ref(asyncio.Future[Any]):
    """Awaited and named as an `ObjectRef` is."""

    def hex(self) -> str:
        return f"{id(self):x}"


def reference(value: Any) -> Reference:
    ref = Ref()
    ref.set_result(value)
    return [ref]


async def test_what_a_session_sent_last_is_there_by_its_name() -> None:
    inputs, kept = Inputs.of(reference("text"), reference("image")), KeptInputs()
    assert await kept.take(inputs, "s") == ("text", "image")
    assert inputs.kept().references is None
    assert await kept.take(inputs.kept(), "s") == ("text", "image")


async def test_what_is_not_there_is_asked_for() -> None:
    first, second = Inputs.of(reference("one"), None), Inputs.of(reference("two"), None)
    kept = KeptInputs()
    with pytest.raises(NotKept):
        await kept.take(first.kept(), "s")
    await kept.take(first, "s")
    await kept.take(second, "s")
    for inputs, session in ((first, "s"), (second, "another"), (second, None)):
        with pytest.raises(NotKept):
            await kept.take(inputs.kept(), session)
    assert await kept.take(second.kept(), "s") == ("two", None)


async def test_of_many_sessions_the_latest_are_kept() -> None:
    inputs, kept = Inputs.of(reference("text"), None), KeptInputs()
    for session in range(KEPT_SESSIONS + 1):
        await kept.take(inputs, str(session))
    with pytest.raises(NotKept):
        await kept.take(inputs.kept(), "0")
    assert await kept.take(inputs.kept(), "1") == ("text", None)


async def test_a_failed_answer_is_found_out_before_it_is_handed_on() -> None:
    """Else the stage that takes it would find out, and nobody would know whom to blame."""

    class Response:
        def __init__(self, failure: Exception | None) -> None:
            self.ref = Ref()
            if failure is None:
                self.ref.set_result("embeddings")
            else:
                self.ref.set_exception(failure)

        async def _to_object_ref(self) -> Ref:
            return self.ref

    right: Any = Response(None)
    assert await reference_to(right) == ([right.ref], "embeddings")
    wrong: Any = Response(StageLost("text_encode"))
    with pytest.raises(StageLost):
        await reference_to(wrong)
