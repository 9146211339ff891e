"""Who may use the server, as the settings and the keys' file say."""

import logging
from pathlib import Path

# Not public, but nothing that is public says where Serve listens, and a config's own word for it is
# not there when Serve was started without one.
from ray._private.authentication.authentication_utils import is_token_auth_enabled
from ray.serve.context import _get_global_client, _get_internal_replica_context

from config import ray_token
from config.exposure import NO_TOKEN, exposure, token_due
from config.keys import KeysError, keys_path, read_keys
from config.settings import AccessSettings
from glimpse.errors import AccessUnavailable
from glimpse.http.access import AccessOptions, KeysDue
from glimpse.key_limits import KeyLimits
from glimpse.keys import KeyRing

logger = logging.getLogger("glimpse.ingress")


def refuse_exposure(settings: AccessSettings) -> None:
    """Raises `ValueError`, so that the application does not start, where everybody could reach a
    server without keys, or Ray itself without a token. However it was deployed: Serve is asked
    where it listens."""
    if _get_internal_replica_context() is None:
        return  # not deployed, so nothing listens
    host = _get_global_client().http_config.host
    problem = exposure(host, settings)
    if problem:
        raise ValueError(problem)
    # A replica has its mode from its node, and a node without the token cannot join a cluster that
    # asks for it.
    if is_token_auth_enabled():
        _keep_token_from_others()
    elif token_due(host, settings):
        raise ValueError(NO_TOKEN)


def _keep_token_from_others() -> None:
    """Ray makes its file readable for every user of the machine."""
    path = ray_token.default_file()
    try:
        if ray_token.keep_from_others():
            logger.warning("%s could be read by other users; now its owner alone can", path)
    except OSError as error:
        logger.warning("%s may be readable by other users: %s", path, error.strerror)


def access_options(settings: AccessSettings, limits: KeyLimits) -> AccessOptions:
    """Raises `KeysError` where there is a file of keys and it is wrong."""
    path = keys_path(settings)
    keys = None
    if path is not None:
        keys = KeysDue(
            ring=KeysOnDisk(path, settings),
            limits=limits,
            renew_s=settings.lease_s / 3,
            patience_s=settings.limits_patience_s,
        )
    return AccessOptions(hosts=settings.hosts, origins=settings.origins, keys=keys)


class KeysOnDisk:
    """The keys in a file, read again when it has changed. A look at it takes microseconds."""

    def __init__(self, path: Path, settings: AccessSettings) -> None:
        self._path = path
        self._settings = settings
        self._stamp = self._stamp_now()
        self._ring = read_keys(path).ring(settings)

    def __call__(self) -> KeyRing:
        """Raises `AccessUnavailable` where the file is gone or wrong: nobody comes in then."""
        try:
            stamp = self._stamp_now()
            if stamp != self._stamp:
                self._ring = read_keys(self._path).ring(self._settings)
                self._stamp = stamp
        except KeysError as error:
            logger.error("%s", error)
            raise AccessUnavailable("Keys cannot be checked; please try again.") from None
        return self._ring

    def _stamp_now(self) -> tuple[int, int, int] | None:
        """Which file it is, and of when. None where there is none."""
        try:
            found = self._path.stat()
        except OSError:
            return None
        return found.st_ino, found.st_mtime_ns, found.st_size
