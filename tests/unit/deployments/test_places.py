"""`deployments.places`: where there is no Ray, nothing is shared."""

import pytest

from deployments.places import RayPlaceCounter, place_counter


def test_what_is_no_replica_shares_no_places() -> None:
    assert place_counter() is None


def test_the_other_replicas_are_found_by_the_name_of_this_one() -> None:
    RayPlaceCounter("glimpse", "SERVE_REPLICA::glimpse#Ingress#abc", "abc")
    with pytest.raises(RuntimeError, match="replica xyz is called"):
        RayPlaceCounter("glimpse", "SERVE_REPLICA::glimpse#Ingress#abc", "xyz")
