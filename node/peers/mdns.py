"""Hints from the local network: this node's addresses by multicast DNS, and those of others.

Knows zeroconf and its threads; nothing else does. Must not know what becomes of a hint
(`node/peers/discovery`). Anybody in the local network can say anything: a hint counts only with our
chain and a private or loopback address, so that nobody makes us dial outside; hints are bounded in
number and rate, and wait in a bounded queue between zeroconf's threads and the loop.

Source: RFC 6762 and 6763; TXT records as in libp2p's discovery/mdns, under a service of our own
(`_prsm._tcp`), since other libp2p programs in the same network are not our peers. The module that
comes with libp2p 0.8.1 listens on all interfaces whatever is configured, and keeps every name.
"""

import secrets
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import ifaddr
import trio
from zeroconf import Error as ZeroconfError
from zeroconf import (
    InterfaceChoice,
    ServiceBrowser,
    ServiceInfo,
    ServiceStateChange,
    Zeroconf,
)

from prsm.node.clock import Clock
from prsm.node.net.places import Place, Scope, place_of
from prsm.node.net.scores import TokenBucket
from prsm.node.telemetry import logs
from prsm.protocol.errors import LocalError
from prsm.protocol.identity import parse_listen
from prsm.protocol.ids import PeerId

log = logs.get("mdns")

SERVICE: Final = "_prsm._tcp.local."
TTL_S: Final = 120
TXT_BYTES_MAX: Final = 1024
ADDRESSES_MAX: Final = 4  # of one name; a TXT record holds 255 bytes a line
NAMES_MAX: Final = 256  # remembered, so that a name costs its query once
WAITING_MAX: Final = 64
HINTS_PER_S: Final = 1
HINTS_BURST: Final = 32
QUERY_MS: Final = 300
CLOSE_SECONDS: Final = 3.0
LOOPBACK: Final = "127.0.0.1"
_CHAIN: Final = b"chain="
_ADDRESS: Final = b"dnsaddr="


@dataclass(frozen=True, slots=True)
class Card:
    """What is multicast of this node.

    Attributes:
        peer: who it is; its own answers are no hints.
        chain: 8 bytes; hints of other networks are ignored.
        addresses: where it can be dialled, read once it listens.
    """

    peer: PeerId
    chain: bytes
    addresses: Callable[[], Sequence[str]]


class Mdns:
    """Announces a node and hears of others.

    Args:
        card: what is said.
        hear: takes a hint; called in the loop.
        clock: of the node.
        interfaces: ip addresses of the interfaces to use; None: loopback if the node listens
            only there, else the system's choice.
    """

    def __init__(
        self,
        card: Card,
        hear: Callable[[Place], object],
        *,
        clock: Clock,
        interfaces: Sequence[str] | None = None,
    ) -> None:
        self._card = card
        self._hear = hear
        self._clock = clock
        self._interfaces = interfaces
        self._names: OrderedDict[str, None] = OrderedDict()
        self._bucket: TokenBucket | None = None
        self._room = threading.Semaphore(WAITING_MAX)  # between zeroconf's threads and the loop

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Announce and listen until cancelled.

        Raises:
            LocalError: the system lets nobody multicast there.
        """
        now_ms = self._clock.monotonic_ms()
        self._bucket = TokenBucket(rate_per_s=HINTS_PER_S, burst=HINTS_BURST, now_ms=now_ms)
        token = trio.lowlevel.current_trio_token()
        opened: list[Zeroconf] = []
        try:
            places = local_places(self._card.addresses())  # asks parts of the loop
            await trio.to_thread.run_sync(self._open, places, token, opened)
            task_status.started()
            await trio.sleep_forever()
        except (OSError, ZeroconfError) as error:
            raise LocalError(
                f"multicast DNS does not work here: {error}", hint="set net.mdns = false"
            ) from error
        finally:
            with trio.move_on_after(CLOSE_SECONDS, shield=True):
                for zeroconf in opened:
                    await trio.to_thread.run_sync(zeroconf.close, abandon_on_cancel=True)

    # -- in zeroconf's threads

    def _open(
        self, places: Sequence[Place], token: trio.lowlevel.TrioToken, opened: list[Zeroconf]
    ) -> None:
        zeroconf = Zeroconf(interfaces=self._choice(places))
        opened.append(zeroconf)

        def changed(
            zeroconf: Zeroconf, service_type: str, name: str, state_change: ServiceStateChange
        ) -> None:
            if state_change is not ServiceStateChange.Removed:
                self._ask(zeroconf, service_type, name, token)

        ServiceBrowser(zeroconf, SERVICE, handlers=[changed])
        if places:
            zeroconf.register_service(_service(self._card.chain, places))

    def _choice(self, places: Sequence[Place]) -> Sequence[str] | InterfaceChoice:
        if self._interfaces is not None:
            return self._interfaces
        if all(place.scope is Scope.LOOPBACK for place in places):
            return [LOOPBACK]
        return InterfaceChoice.Default

    def _ask(
        self, zeroconf: Zeroconf, service_type: str, name: str, token: trio.lowlevel.TrioToken
    ) -> None:
        info = ServiceInfo(service_type, name)
        if not info.load_from_cache(zeroconf) and not info.request(zeroconf, QUERY_MS):
            return
        if not self._room.acquire(blocking=False):
            return
        try:
            token.run_sync_soon(self._take, name, bytes(info.text or b"")[:TXT_BYTES_MAX])
        except trio.RunFinishedError:
            return

    # -- in the loop

    def _take(self, name: str, text: bytes) -> None:
        self._room.release()
        assert self._bucket is not None
        key = f"{name} {text.hex()}"  # the same name with other addresses is news
        if key in self._names or not self._bucket.take(now_ms=self._clock.monotonic_ms()):
            return
        self._names[key] = None
        if len(self._names) > NAMES_MAX:
            self._names.popitem(last=False)
        for place in read_text(text, self._card.chain):
            if place.peer != self._card.peer:
                log.info("a peer in the local network", address=place.text)
                self._hear(place)


def local_places(addresses: Sequence[str]) -> list[Place]:
    """What can be said in the local network of addresses a node listens on, all with /p2p/.

    An unspecified address (0.0.0.0) stands for those of all interfaces; public ones are left out.
    """
    places: list[Place] = []
    for address in addresses:
        for text in _of_interfaces(address):
            place = _place(text)
            if place is not None and place.scope is not Scope.PUBLIC:
                places.append(place)
    wider = [place for place in places if place.scope is Scope.PRIVATE]
    return (wider or places)[:ADDRESSES_MAX]


def write_text(chain: bytes, places: Sequence[Place]) -> bytes:
    """The TXT record of a node: lines of a length byte and `name=value`."""
    lines = [_CHAIN + chain.hex().encode()]
    lines += [_ADDRESS + place.text.encode() for place in places]
    return b"".join(bytes([len(line)]) + line for line in lines if len(line) < 256)


def read_text(text: bytes, chain: bytes) -> list[Place]:
    """Addresses of the local network in a TXT record; none if it is of another chain, or junk."""
    lines = list(_lines(text))
    if _CHAIN + chain.hex().encode() not in lines:
        return []
    found: list[Place] = []
    for line in lines:
        if line.startswith(_ADDRESS) and len(found) < ADDRESSES_MAX:
            place = _place(line.removeprefix(_ADDRESS).decode("ascii", errors="replace"))
            if place is not None and place.scope is not Scope.PUBLIC:
                found.append(place)
    return found


def _lines(text: bytes) -> Iterator[bytes]:
    at = 0
    while at < len(text):
        end = at + 1 + text[at]
        yield text[at + 1 : end]
        at = end


def _place(text: str) -> Place | None:
    try:
        return place_of(text)
    except LocalError:
        return None


def _of_interfaces(address: str) -> list[str]:
    where, _, peer = address.partition("/p2p/")
    try:
        ip, port = parse_listen(where)
    except LocalError:
        return [address]  # such as one behind a relay
    if ip != "0.0.0.0":  # noqa: S104 - nothing is bound
        return [address]
    found = [ip.ip for adapter in ifaddr.get_adapters() for ip in adapter.ips if ip.is_IPv4]
    return [f"/ip4/{one}/tcp/{port}/p2p/{peer}" for one in found if one != LOOPBACK]


def _service(chain: bytes, places: Sequence[Place]) -> ServiceInfo:
    name = secrets.token_hex(16)
    return ServiceInfo(
        SERVICE,
        f"{name}.{SERVICE}",
        port=int(places[0].text.split("/")[4]),
        properties=write_text(chain, places),
        server=f"{name}.local.",
        host_ttl=TTL_S,
        other_ttl=TTL_S,
        parsed_addresses=sorted({place.text.split("/")[2] for place in places}),
    )
