"""A relay: it keeps places for peers nobody can dial, and carries bytes it cannot read to them.

Knows places, bounds and who is joined with whom. Must not know what travels: the two ends of a
circuit prove who they are to one another, through Noise, over what this node passes on. Serving is
opt-in; every bound has a name and an answer. Nothing is relayed that came through a relay itself,
so circuits cannot form a loop.
"""

import logging
import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import trio

from prsm.node.net.arrivals import place_of
from prsm.node.net.circuit import Circuits, Hop
from prsm.node.net.interface import (
    Answer,
    Busy,
    CallRefused,
    Channel,
    Incoming,
    Network,
    PeerEvent,
    PeerInfo,
    PeerUnreachable,
)
from prsm.node.net.scores import TokenBucket, TokenBuckets
from prsm.protocol.errors import LocalError, PrsmError
from prsm.protocol.identity import is_circuit, parse_address
from prsm.protocol.ids import PeerId
from prsm.protocol.limits import CIRCUIT_PIECE_BYTES_MAX, MIB
from prsm.protocol.messages.reach import Granted, OpenCircuit, Reserve, TakeCircuit

TAKE_DEADLINE_S: Final = 3.0  # of the dialler's 5 s
LOOK_S: Final = 1.0
IDLE_S: Final = 30.0  # the two ends say a heartbeat every 5 s
# To one place: as many as a door takes of sockets. Its peer grants a relay 200 calls a second, and
# what is beyond them counts against the relay, whoever asked it to.
OPENS_PER_S: Final = 20
OPENS_BURST: Final = 64
# By one dialler, to any place: well below, or one stranger locks everybody else out of a place.
DIALLER_OPENS_PER_S: Final = 1
DIALLER_OPENS_BURST: Final = 16
DIALLERS_MAX: Final = 256  # whose circuits are counted

log = logging.getLogger(__name__)


class NoRelay(LocalError):
    """This node carries nothing for others."""

    reason = "relay_off"


class RelayLoop(LocalError):
    """A relay was asked through a relay."""

    reason = "relay_loop"


class NoPlace(LocalError):
    """The peer a circuit was asked to has no place at this relay."""

    reason = "relay_no_place"


@dataclass(frozen=True, slots=True)
class RelayRules:
    """What a relay gives at most.

    Attributes:
        places_max: peers that may be reached through it.
        places_per_ip_max: of them, of one ip, or /64 of IPv6; loopback and private ranges, where
            a whole network may share one, are exempt.
        circuits_max: open at once.
        circuits_per_place_max: to one place.
        circuits_per_dialler_max: by one dialler.
        bytes_per_s: of all circuits of a place together, both ways.
        lifetime_ms: of a place that is not renewed.
    """

    places_max: int = 32
    places_per_ip_max: int = 4
    circuits_max: int = 64
    circuits_per_place_max: int = 16
    circuits_per_dialler_max: int = 8
    bytes_per_s: int = 8 * MIB
    lifetime_ms: int = 10 * 60_000


class Throttle:
    """Says how long to wait so that on average a rate is kept; a second's worth at once.

    Args:
        bytes_per_s: the rate.
        now_ms: monotonic.
    """

    def __init__(self, bytes_per_s: int, *, now_ms: int) -> None:
        self._bytes_per_s = bytes_per_s
        self._free_at_ms = now_ms - 1000

    def take(self, size: int, *, now_ms: int) -> int:
        """Count bytes; milliseconds to wait before they may leave."""
        self._free_at_ms = max(self._free_at_ms, now_ms - 1000)
        self._free_at_ms += size * 1000 // self._bytes_per_s
        return max(0, self._free_at_ms - now_ms)


@dataclass(slots=True)
class Place:
    """A peer that may be reached through this relay."""

    peer: PeerId
    ip: str  # or the /64 of IPv6; empty for one without a bound
    until_ms: int
    throttle: Throttle
    opens: TokenBucket
    circuits: set[trio.CancelScope] = field(default_factory=set)
    carried_bytes: int = 0


class Places:
    """Who has a place, until when: pure.

    Args:
        rules: the bounds.
    """

    def __init__(self, rules: RelayRules) -> None:
        self._rules = rules
        self._places: dict[PeerId, Place] = {}

    def __len__(self) -> int:
        return len(self._places)

    def all(self) -> tuple[Place, ...]:
        """In order of the peers."""
        return tuple(self._places[peer] for peer in sorted(self._places))

    def reserve(self, peer: PeerId, ip: str, *, now_ms: int) -> Place:
        """Keep a place, or keep it longer.

        Raises:
            Busy: all are taken, or all that one ip may have.
        """
        rules = self._rules
        place = self._places.get(peer)
        if place is None:
            if len(self._places) >= rules.places_max:
                what = f"{len(self._places)} places are taken, at most {rules.places_max}"
                first_ms = min(other.until_ms for other in self._places.values())
                raise Busy(what, retry_after_ms=max(1, first_ms - now_ms))
            ip = place_of(ip)[0].removesuffix("/32")  # empty where a whole network may share one
            same = sum(1 for other in self._places.values() if other.ip == ip)
            if ip and same >= rules.places_per_ip_max:
                what = f"{same} places are of {ip}, at most {rules.places_per_ip_max}"
                raise Busy(what, retry_after_ms=rules.lifetime_ms)
            throttle = Throttle(rules.bytes_per_s, now_ms=now_ms)
            opens = TokenBucket(rate_per_s=OPENS_PER_S, burst=OPENS_BURST, now_ms=now_ms)
            place = self._places[peer] = Place(peer, ip, 0, throttle, opens)
        place.until_ms = now_ms + rules.lifetime_ms
        return place

    def find(self, peer: PeerId) -> Place:
        """The place of a peer.

        Raises:
            NoPlace: it has none.
        """
        place = self._places.get(peer)
        if place is None:
            raise NoPlace(f"peer {peer} has no place at this relay")
        return place

    def drop(self, peer: PeerId) -> Place | None:
        """Take a place back."""
        return self._places.pop(peer, None)

    def expired(self, *, now_ms: int) -> tuple[Place, ...]:
        """Take back the places whose time is over."""
        over = [place for place in self._places.values() if place.until_ms <= now_ms]
        for place in over:
            del self._places[place.peer]
        return tuple(over)


@dataclass(frozen=True, slots=True)
class RelayInfo:
    """What people may know of a relay."""

    serves: bool
    places: tuple[PeerId, ...]
    circuits: int
    carried_bytes: int


class Relay:
    """Answers `Reserve` and `OpenCircuit`; carries bytes while it runs.

    Args:
        network: not running yet.
        circuits: all hops of this node.
        now_ms: monotonic clock of the node.
        rules: None: this node carries nothing for others, and says so.
    """

    def __init__(
        self,
        network: Network,
        circuits: Circuits,
        *,
        now_ms: Callable[[], int],
        rules: RelayRules | None,
    ) -> None:
        self._network = network
        self._circuits = circuits
        self._now_ms = now_ms
        self._rules = rules
        self._places = Places(rules or RelayRules())
        self._by_dialler: Counter[PeerId] = Counter()
        self._opens = TokenBuckets(
            rate_per_s=DIALLER_OPENS_PER_S, burst=DIALLER_OPENS_BURST, peers_max=DIALLERS_MAX
        )
        self._carried_bytes = 0
        self._nursery: trio.Nursery | None = None
        network.on_call(Reserve, self._on_reserve)
        network.on_call(OpenCircuit, self._on_open)
        network.on_peer(self._on_peer)

    def info(self) -> RelayInfo:
        """Who has a place, and how much is carried."""
        places = self._places.all()
        return RelayInfo(
            serves=self._rules is not None,
            places=tuple(place.peer for place in places),
            circuits=sum(self._by_dialler.values()),
            carried_bytes=self._carried_bytes,
        )

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Carry until cancelled; places end here when their time is over."""
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                task_status.started()
                while True:
                    for place in self._places.expired(now_ms=self._now_ms()):
                        log.info("the place of %s was not renewed", place.peer)
                        _end_all(place)
                    await trio.sleep(LOOK_S if self._rules is not None else math.inf)
        finally:
            self._nursery = None

    def _on_peer(self, event: PeerEvent) -> None:
        if not event.up and (place := self._places.drop(event.peer)):
            _end_all(place)

    async def _on_reserve(self, incoming: Incoming) -> Answer:
        await trio.lowlevel.checkpoint()
        rules, info = self._admit(incoming.peer)
        ip = parse_address(info.address).ip
        fresh = len(self._places)
        self._places.reserve(incoming.peer, ip, now_ms=self._now_ms())
        if len(self._places) > fresh:
            log.info("peer %s has a place here", incoming.peer)
        return Granted(lifetime_ms=rules.lifetime_ms, bytes_per_s=rules.bytes_per_s), b""

    async def _on_open(self, incoming: Incoming) -> Answer:
        ask = incoming.message
        assert isinstance(ask, OpenCircuit)
        rules, _ = self._admit(incoming.peer)
        place = self._places.find(PeerId(ask.peer))
        self._admit(place.peer)
        self._refuse_surplus(rules, place, incoming.peer)
        near = self._circuits.take(incoming.peer, ask.circuit)
        far = self._circuits.open(place.peer)
        scope = trio.CancelScope()
        place.circuits.add(scope)
        self._by_dialler[incoming.peer] += 1
        try:
            await self._ask(place, far, incoming.peer)
            self._admit(place.peer)  # we may have ended meanwhile
        except BaseException as error:
            near.end(str(error))  # the answer says so
            with trio.CancelScope(shield=True):
                await self._end(place, near, far, scope, "it was not taken")
            raise
        assert self._nursery is not None
        self._nursery.start_soon(self._carry, place, near, far, scope)
        left_ms = max(0, place.until_ms - self._now_ms())
        return Granted(lifetime_ms=left_ms, bytes_per_s=rules.bytes_per_s), b""

    def _admit(self, peer: PeerId) -> tuple[RelayRules, PeerInfo]:
        """Serve only peers with a link of their own.

        Raises:
            NoRelay, RelayLoop, PeerUnreachable: see there.
        """
        if self._rules is None or self._nursery is None:
            raise NoRelay("this node carries nothing for others", hint="set net.relay = true there")
        info = next((info for info in self._network.peers() if info.peer == peer), None)
        if info is None:
            raise PeerUnreachable(f"peer {peer} is gone")
        if is_circuit(info.address):
            raise RelayLoop(f"peer {peer} is here through a relay itself")
        return self._rules, info

    def _refuse_surplus(self, rules: RelayRules, place: Place, dialler: PeerId) -> None:
        for count, most, what in (
            (sum(self._by_dialler.values()), rules.circuits_max, "of this relay"),
            (len(place.circuits), rules.circuits_per_place_max, f"to {place.peer}"),
            (self._by_dialler[dialler], rules.circuits_per_dialler_max, f"by {dialler}"),
        ):
            if count >= most:
                raise Busy(f"{count} circuits {what} are open, at most {most}", retry_after_ms=1000)
        now_ms, what = self._now_ms(), ""
        if not self._opens.take(dialler, now_ms=now_ms):
            what = f"{DIALLER_OPENS_PER_S} circuits a second by {dialler}"
        elif not place.opens.take(now_ms=now_ms):
            what = f"{OPENS_PER_S} circuits a second to {place.peer}"
        if what:
            raise Busy(f"over {what}", retry_after_ms=1000)

    async def _ask(self, place: Place, far: Hop, dialler: PeerId) -> None:
        take = TakeCircuit(
            circuit=far.number,
            peer=dialler,
            lifetime_ms=max(0, place.until_ms - self._now_ms()),
            bytes_per_s=self._rules.bytes_per_s if self._rules else 0,
        )
        try:
            with trio.fail_after(TAKE_DEADLINE_S):
                await self._network.call(place.peer, take, channel=Channel.CTL)
        except trio.TooSlowError:
            raise PeerUnreachable(f"peer {place.peer} did not take the circuit in time") from None
        except CallRefused as error:
            far.end(error.what)  # that number was never taken there
            raise PeerUnreachable(f"peer {place.peer} refused the circuit: {error.what}") from error

    async def _carry(self, place: Place, near: Hop, far: Hop, scope: trio.CancelScope) -> None:
        why = "the relay ended it"
        try:
            with scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._pass_on, place, near, far, nursery.cancel_scope)
                    nursery.start_soon(self._pass_on, place, far, near, nursery.cancel_scope)
                    nursery.start_soon(_watch_idle, near, far, nursery.cancel_scope)
                why = near.why or far.why or "nothing was said on it"
        finally:
            with trio.CancelScope(shield=True):
                await self._end(place, near, far, scope, why)

    async def _pass_on(self, place: Place, source: Hop, sink: Hop, scope: trio.CancelScope) -> None:
        try:
            while data := await source.read_some(CIRCUIT_PIECE_BYTES_MAX):
                wait_ms = place.throttle.take(len(data), now_ms=self._now_ms())
                if wait_ms:
                    await trio.sleep(wait_ms / 1000)
                await sink.write_all(data)
                place.carried_bytes += len(data)
                self._carried_bytes += len(data)
        except PrsmError as error:
            log.debug("circuit to %s ended: %s", place.peer, error.what)
        scope.cancel()

    async def _end(
        self, place: Place, near: Hop, far: Hop, scope: trio.CancelScope, why: str
    ) -> None:
        place.circuits.discard(scope)
        self._by_dialler[near.peer] -= 1
        if not self._by_dialler[near.peer]:
            del self._by_dialler[near.peer]
        async with trio.open_nursery() as nursery:
            for hop in (near, far):
                nursery.start_soon(hop.close, why)
        for hop in (near, far):
            self._circuits.forget(hop)


def _end_all(place: Place) -> None:
    for scope in tuple(place.circuits):
        scope.cancel()


async def _watch_idle(near: Hop, far: Hop, scope: trio.CancelScope) -> None:
    """End a circuit on which nothing was said for a while."""
    heard = -1
    while heard != near.heard_bytes + far.heard_bytes:
        heard = near.heard_bytes + far.heard_bytes
        await trio.sleep(IDLE_S)
    scope.cancel()
