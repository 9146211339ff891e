"""Whether a server without keys can be reached from elsewhere."""

import ipaddress

from config.settings import AccessSettings


def exposure(host: str | None, access: AccessSettings) -> str | None:
    """What is wrong with listening on that host, if something is. None listens nowhere."""
    if host is None or access.keys_file is not None or access.allow_anonymous or _loopback(host):
        return None
    return (
        "no key is due, and http_options.host is not a loopback address such as 127.0.0.1: set "
        "access.keys_file, or access.allow_anonymous: true if everybody may use the server"
    )


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
