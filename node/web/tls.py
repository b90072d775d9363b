"""TLS of the door: its certificate, read again when it was renewed, and who may be let in.

An address that other machines reach is opened with TLS and tokens only: a cookie or a token in
clear text is everybody's on the way. Source: docs/spec/rpc.md, "Doors".

Knows: certificates, addresses. Must not know: requests, methods.
"""

import ipaddress
import math
import ssl
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from prsm.node.certificate import read_end_s
from prsm.node.telemetry import logs
from prsm.protocol.errors import LocalError

HANDSHAKE_S: Final = 5.0

log: Final = logs.get("web")


class TlsUnusable(LocalError):
    """The certificate or its key cannot be used."""

    reason = "tls_unusable"


class Tls:
    """A certificate with its key, as they are on disk now.

    Args:
        certificate: PEM: the node's own first, then those that vouch for it.
        key: PEM without a password, mode 0600.

    Raises:
        TlsUnusable: unreadable, open to others, or of two different pairs.
    """

    def __init__(self, certificate: Path, key: Path) -> None:
        self._certificate = certificate
        self._key = key
        self._read_at = self._written_at()
        self._context = self._load()
        self._ends_s = self._read_end()

    def context(self) -> ssl.SSLContext:
        """For the next connection; files that changed are read first, and kept out if damaged."""
        try:
            written_at = self._written_at()
            if written_at != self._read_at:
                self._context = self._load()
                self._read_at, self._ends_s = written_at, self._read_end()
                log.info("certificate read again", file=str(self._certificate))
        except TlsUnusable as error:
            log.warning("certificate not read again", why=error.what)
        return self._context

    def left_s(self, now_s: float) -> float:
        """How long the certificate that the next connection gets is good yet; below 0: no more.

        Args:
            now_s: seconds since 1970.
        """
        self.context()
        return self._ends_s - now_s

    def _read_end(self) -> float:
        try:
            return read_end_s(self._certificate)
        except (OSError, ValueError) as error:  # a pair that serves; its end is not known
            log.warning("certificate's end not read", why=str(error)[:200])
            return math.inf

    def _written_at(self) -> tuple[int, ...]:
        try:
            found = self._certificate.stat(), self._key.stat()
        except OSError as error:
            raise TlsUnusable(f"{error.filename} cannot be read: {error.strerror}") from error
        mode = found[1].st_mode & 0o777
        if mode & 0o077:
            raise TlsUnusable(
                f"{self._key} has mode {mode:04o}, at most 0600", hint=f"chmod 600 {self._key}"
            )
        # Not the time of writing, which copies take along: nobody sets this one.
        return tuple(number for one in found for number in (one.st_ino, one.st_ctime_ns))

    def _load(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
        context.set_alpn_protocols(["http/1.1"])
        try:
            # A key under a password would ask at the terminal.
            context.load_cert_chain(self._certificate, self._key, password=_no_password)
        except (OSError, ssl.SSLError, ValueError) as error:
            raise TlsUnusable(
                f"{self._certificate} and {self._key} are no pair: {error}",
                hint="give a PEM certificate and its PEM key without a password",
            ) from error
        return context


class Visitors:
    """How many connections each address of another machine has open.

    A public /64 of IPv6 counts as one address: whoever has one of it has all.

    Args:
        each_max: at once; this machine's own programs are not counted.
        all_max: of all other machines together, so that places are left to this one.
    """

    def __init__(self, each_max: int, *, all_max: int) -> None:
        self._each_max, self._all_max = each_max, all_max
        self._open: Counter[str] = Counter()

    @contextmanager
    def enter(self, address: str) -> Iterator[bool]:
        """Count one more while the block runs; False if it has, or all have, as many as may be.

        Args:
            address: as text; empty for the unix socket.
        """
        if not address or _host(address).is_loopback:
            yield True
            return
        place = _place(address)
        if self._open[place] >= self._each_max or self._open.total() >= self._all_max:
            yield False
            return
        self._open[place] += 1
        try:
            yield True
        finally:
            self._open[place] -= 1
            if not self._open[place]:
                del self._open[place]


def _place(address: str) -> str:
    """What an address counts as."""
    host = _host(address)
    if host.version == 4 or host.is_private or host.is_link_local:
        return str(host)
    return str(ipaddress.ip_network((host, 64), strict=False))


def _host(address: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """An address without its zone; one of IPv4 on a socket of both families as such."""
    host = ipaddress.ip_address(address.partition("%")[0])
    mapped = host.ipv4_mapped if isinstance(host, ipaddress.IPv6Address) else None
    return mapped or host


def _no_password() -> str:
    raise ValueError("the key is under a password")


class AllowFrom:
    """Which addresses may connect.

    Args:
        networks: such as `10.0.0.0/8`; none: all.
    """

    def __init__(self, networks: tuple[str, ...]) -> None:
        self._networks = tuple(ipaddress.ip_network(one) for one in networks)

    def __contains__(self, address: object) -> bool:
        """Whether that address, as text, may; those of this machine always may."""
        host = _host(str(address))
        if host.is_loopback or not self._networks:
            return True
        return any(host in one for one in self._networks)
