"""What each key has used, counted once for all replicas of the ingress."""

from config.settings import AppSettings
from glimpse import logs
from glimpse.key_limits import CountedHere


class KeyLimits(CountedHere):
    """One replica. If it dies another takes over, to which the ingresses tell what is open; the
    keys' minutes begin anew."""

    def __init__(self, settings: AppSettings) -> None:
        logs.configure(settings.log_level)
        super().__init__(settings.access.lease_s)
