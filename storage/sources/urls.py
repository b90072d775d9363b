"""URLs of daemons and gateways: a scheme, a host and a port, nothing that could be a secret. Pure.

Knows the form. Must not know who is asked there.
"""

from urllib.parse import urlsplit

from prsm.protocol.errors import LocalError


def checked_url(url: str) -> str:
    """Return a URL of scheme, host and port only, without a slash at its end.

    Raises:
        LocalError: it has anything else; it is not repeated, since it may hold a password.
    """
    parts = urlsplit(url)
    try:
        is_plain = parts.port != 0 and not parts.username and not parts.password
    except ValueError:
        is_plain = False
    is_bare = parts.path in {"", "/"} and not parts.query and not parts.fragment
    if parts.scheme not in {"http", "https"} or not parts.hostname or not (is_plain and is_bare):
        raise LocalError(
            "the URL of a gateway or of an IPFS daemon has a scheme, a host and a port only",
            hint="such as http://127.0.0.1:8080",
        )
    return url.rstrip("/")
