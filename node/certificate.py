"""When a certificate of the door ends.

Knows: PEM, X.509. Must not know: sockets, who serves it. Source: RFC 5280, 4.1.2.5.
"""

from pathlib import Path


def read_end_s(path: Path) -> float:
    """When the first of a file's certificates ends, those that vouch for the node's own too.

    Args:
        path: PEM.

    Returns:
        Seconds since 1970.

    Raises:
        OSError: the file cannot be read.
        ValueError: it holds no certificate, or one that cannot be read.
    """
    from cryptography import x509  # noqa: PLC0415 - 70 ms, and few doors have TLS

    found = x509.load_pem_x509_certificates(path.read_bytes())
    return min(one.not_valid_after_utc.timestamp() for one in found)
