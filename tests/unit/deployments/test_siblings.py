"""`deployments.siblings`: where there is no Ray, nothing is shared."""

import pytest

from deployments.siblings import Siblings, siblings


def test_what_is_no_replica_shares_no_places() -> None:
    assert siblings() is None


def test_the_other_replicas_are_found_by_the_name_of_this_one() -> None:
    Siblings("glimpse", "SERVE_REPLICA::glimpse#Ingress#abc", "abc")
    with pytest.raises(RuntimeError, match="replica xyz is called"):
        Siblings("glimpse", "SERVE_REPLICA::glimpse#Ingress#abc", "xyz")


async def test_who_cannot_ask_others_tries_and_counts_by_itself(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def away() -> list[str]:
        raise RuntimeError("the GCS does not answer")

    monkeypatch.setattr("ray.util.list_named_actors", away)
    lonely = Siblings("glimpse", "SERVE_REPLICA::glimpse#Ingress#abc", "abc")
    await lonely.begin_trial("denoise")
    assert not await lonely.excuses("denoise", 60)
    lonely.end_trial("denoise", convicted=True)
    assert "a trial begins without a word from other ingresses" in caplog.text
    assert "what other ingresses try is not known" in caplog.text


async def test_an_ingress_alone_asks_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    own = "SERVE_REPLICA::glimpse#Ingress#abc"
    monkeypatch.setattr(
        "ray.util.list_named_actors", lambda: [own, "SERVE_REPLICA::other#Ingress#"]
    )
    alone = Siblings("glimpse", own, "abc")
    await alone.begin_trial("denoise")
    assert not await alone.excuses("denoise", 60)
    alone.end_trial("denoise", convicted=False)
