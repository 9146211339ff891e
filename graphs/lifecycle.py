"""How replicas are checked, replaced and drained. A serve config may say otherwise for each."""

from typing import Any

from config.settings import AppSettings

DRAIN_MARGIN_S = 30
"""For what a request waits before its deadline counts, beside a stage and a place: a counter of
places that does not answer."""


def of_stages(settings: AppSettings) -> dict[str, Any]:
    """Three failed checks in a row replace a replica.

    On an update the new replicas are there before the old ones go. Where each has a GPU of its own
    there is none to spare: the old ones go first, and requests wait.
    """
    return {
        "health_check_period_s": 1,
        "health_check_timeout_s": 6,
        "graceful_shutdown_timeout_s": (
            settings.recovery.stage_wait_s
            + settings.ingress.place_wait_s
            + settings.ingress.deadline_s
            + DRAIN_MARGIN_S
        ),
        "max_surge_percent": 0 if settings.model.device == "cuda" else 100,
    }


def of_edges(settings: AppSettings) -> dict[str, Any]:
    """An ingress holds clients' connections: it has more time to answer, and its replacement is
    always there before it goes."""
    return of_stages(settings) | {"health_check_timeout_s": 10, "max_surge_percent": 100}
