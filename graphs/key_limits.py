"""The one place where keys' limits are counted, in either graph."""

from ray import serve
from ray.serve import Application

from config.settings import AppSettings
from deployments.key_limits import KeyLimits


def key_limits(settings: AppSettings) -> Application | None:
    """None where no key is due: it would be a process for nothing.

    Its options are not the deployer's, as they follow from what it is: two replicas would count
    apart, and one that is gone keeps everybody out.
    """
    if settings.access.keys_file is None:
        return None
    return serve.deployment(
        KeyLimits,
        num_replicas=1,
        max_ongoing_requests=1000,
        health_check_period_s=1,
        max_surge_percent=100,
        ray_actor_options={"num_cpus": 0.01},
    ).bind(settings)
