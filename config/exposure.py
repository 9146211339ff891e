"""Who could reach the server, and Ray itself, without a key."""

import ipaddress

from config.settings import AccessSettings

# For whoever reads it where Serve shows it: in the terminal, or `serve status`.
NO_TOKEN = """\
Ray's own ports ask for no token: whoever reaches them can run code on every node and read the keys.
Stop Ray on every node, and start it again after these lines:
    python -m config.ray_token            # once; copy ~/.ray/auth_token to the other nodes
    set -a; . config/serve.env; set +a    # in every shell that calls ray or serve
On Kubernetes, set `authOptions: {mode: token}` in rayClusterConfig instead.
Where no stranger reaches Ray's ports, `access.ray_token: off` does without (docs/security.md)."""


def exposure(host: str | None, access: AccessSettings) -> str | None:
    """What is wrong with listening on that host, if something is. None listens nowhere."""
    if access.keys_file is not None or access.allow_anonymous or _out_of_reach(host):
        return None
    return (
        "no key is due, and http_options.host is not a loopback address such as 127.0.0.1: set "
        "access.keys_file, or access.allow_anonymous: true if everybody may use the server"
    )


def token_due(host: str | None, access: AccessSettings) -> bool:
    """Whether Ray's own ports have to ask for a token, for a server that listens on that host."""
    if access.ray_token is not None:
        return access.ray_token == "required"
    return access.keys_file is not None or not _out_of_reach(host)


def _out_of_reach(host: str | None) -> bool:
    """Whether only this machine reaches the host."""
    if host is None:
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
