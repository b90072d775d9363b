"""Peer exchange: what this node tells of addresses, and what it takes of what it is told.

Knows the two calls, the book and scopes. Must not know who is dialled for the quota
(`node/peers/discovery`). Invariants: only answers to questions of ours write into the book, within
the share of one source; others' addresses are taken only from peers this node chose itself, of
anybody else only its own; told is only what this node has dialled with success; a public peer
neither tells nor hears private addresses. Source: docs/spec/wire.md, "Finding peers".
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Final

import trio

from prsm.node.clock import Clock
from prsm.node.net.addresses import AddressBook, Dice, Kind
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
from prsm.node.net.places import Place, Scope, may_tell, place_of, scope_of
from prsm.node.net.scores import TokenBuckets
from prsm.node.telemetry import logs
from prsm.protocol.errors import LocalError, RemoteError, WireError
from prsm.protocol.identity import is_circuit, parse_circuit
from prsm.protocol.ids import PeerId
from prsm.protocol.limits import ADDRESSES_TOLD_MAX, HELLO_ADDRESSES_MAX
from prsm.protocol.messages.exchange import GetAddresses, GotAddresses

log = logs.get("exchange")

ASK_DEADLINE_S: Final = 10.0
ASK_AGAIN_FIRST_MS: Final = 2_000  # three times as long after each answer: a network is forming
ASK_AGAIN_LONGEST_MS: Final = 600_000
ASKS_AT_ONCE: Final = 4
OWN_TAKEN_MAX: Final = 2  # of a peer's own addresses; each may cost a dial
TOLD_SHARE: Final = 4  # of a large book a fourth is told,
TOLD_ALL_MAX: Final = 32  # of a small one all
TOLD_FOR_MS: Final = 3600_000  # the same fourth, so that asking often shows no more of it
ELSEWHERE_MAX: Final = 16  # told to whom we have no place for
ANSWERS_BURST: Final = 8  # questions of one peer answered at once, then one a minute
ASKERS_MAX: Final = 256


@dataclass(frozen=True, slots=True)
class Teller:
    """What this node says of itself.

    Attributes:
        region: label its owner gave it; may be empty.
        own: where it can be dialled now.
        trusted: the only peers it deals with; everybody if empty.
    """

    region: str
    own: Callable[[], Sequence[str]]
    trusted: frozenset[PeerId] = frozenset()


@dataclass(slots=True)
class _Due:
    at_ms: int
    again_ms: int = ASK_AGAIN_FIRST_MS


class Exchange:
    """Asks linked peers for addresses, and answers them.

    Args:
        network: not running yet.
        book: what is known; one task at a time writes into it.
        teller: what is said of this node.
        clock: of the node.
        dice: who draws what is told.
    """

    def __init__(
        self, network: Network, book: AddressBook, teller: Teller, *, clock: Clock, dice: Dice
    ) -> None:
        self._network = network
        self._book = book
        self._teller = teller
        self._clock = clock
        self._dice = dice
        self._due: dict[PeerId, _Due] = {}
        self._told: dict[Scope, tuple[int, list[Place]]] = {}
        self._askers = TokenBuckets(rate_per_s=1, burst=ANSWERS_BURST, peers_max=ASKERS_MAX)
        self._news = trio.Event()
        self._turns = trio.Semaphore(ASKS_AT_ONCE)
        self.chosen: Callable[[], Collection[PeerId]] = tuple  # peers this node dialled itself
        self.vouched: frozenset[str] = frozenset()  # addresses this node's owner wrote down
        network.on_call(GetAddresses, self._answer)
        network.on_peer(self._on_peer)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Ask whom it is time to ask, until cancelled."""
        async with trio.open_nursery() as nursery:
            task_status.started()
            while True:
                now_ms = self._clock.monotonic_ms()
                for peer, due in self._due.items():
                    if due.at_ms <= now_ms:
                        due.at_ms = now_ms + due.again_ms
                        due.again_ms = min(3 * due.again_ms, ASK_AGAIN_LONGEST_MS)
                        nursery.start_soon(self._ask, peer)
                first_ms = min((due.at_ms for due in self._due.values()), default=now_ms + 60_000)
                with trio.move_on_after(max(1, first_ms - now_ms) / 1000):
                    await self._news.wait()
                self._news = trio.Event()

    def _on_peer(self, event: PeerEvent) -> None:
        if event.up:
            self._due[event.peer] = _Due(self._clock.monotonic_ms())
        else:
            self._due.pop(event.peer, None)
        self._news.set()

    # -- asking

    async def _ask(self, peer: PeerId) -> None:
        chosen = peer in self.chosen()
        ask = GetAddresses(count=ADDRESSES_TOLD_MAX if chosen else 0)
        try:
            async with self._turns:
                with trio.fail_after(ASK_DEADLINE_S):
                    answer, _ = await self._network.call(peer, ask, channel=Channel.CTL)
            await self._take(peer, answer, chosen=chosen)
        except (trio.TooSlowError, PeerUnreachable, CallRefused):
            return  # an older peer, a busy one; asked again later
        except LocalError as error:
            log.debug("peer cannot be asked for addresses", peer=peer, why=error.what)
        except RemoteError as error:
            self._network.penalise(peer, error)

    async def _take(self, peer: PeerId, answer: object, *, chosen: bool) -> None:
        info = next((info for info in self._network.peers() if info.peer == peer), None)
        if info is None:
            return
        if not isinstance(answer, GotAddresses):
            raise WireError(f"{type(answer).__name__} is no answer to what was asked")
        own = [place for text in answer.own if (place := _place(text))]
        if any(place.peer != peer for place in own):
            raise WireError("the address of another peer as its own")
        if answer.others and not chosen:
            raise WireError(f"{len(answer.others)} addresses that nobody asked for")
        listener, source = scope_of(info.address), source_of(info)
        for place in own[:OWN_TAKEN_MAX]:
            if may_tell(place.scope, listener) and self._is_trusted(peer):
                self._learn(place, source)
                await self._verify(info, place, answer.region)
        for text in answer.others:
            other = _place(text)
            if other and may_tell(other.scope, listener) and self._is_trusted(other.peer):
                self._learn(other, source)

    def hear_elsewhere(self, address: str, others: Sequence[str]) -> None:
        """Take what a peer of our choice named, which had no place for us.

        Args:
            address: where it was dialled.
            others: addresses, unread.
        """
        teller = _place(address)
        if teller is None:
            return
        source = teller.group if teller.scope is Scope.PUBLIC else teller.peer
        for text in others[:ADDRESSES_TOLD_MAX]:
            other = _place(text)
            if other and may_tell(other.scope, teller.scope) and self._is_trusted(other.peer):
                self._learn(other, source)

    def elsewhere(self, address: str) -> tuple[str, ...]:
        """Whom one may dial who is seen at an address and finds no place here: some, at random."""
        known = self._tell(scope_of(address))
        first = self._dice.randrange(len(known)) if known else 0
        return tuple(place.text for place in (known[first:] + known[:first])[:ELSEWHERE_MAX])

    def _learn(self, place: Place, source: str) -> None:
        now_ms = self._clock.wall_ms()
        self._book.learn(place, source=source, kind=Kind.EXCHANGE, now_ms=now_ms)

    async def _verify(self, info: PeerInfo, place: Place, region: str) -> None:
        """Look whether a linked peer answers where it says; only then others hear of it."""
        entry = self._book.get(place.text)
        if entry is None or not entry.is_ready(self._clock.wall_ms()):
            return
        if not entry.last_success_ms and place.text not in self.vouched:
            if not self._may_probe(place.text):
                return
            try:  # a dial and a handshake: half of all of them while a network starts
                await self._network.probe(place.text)
            except (LocalError, RemoteError):
                self._book.failed(place.text, now_ms=self._clock.wall_ms())
                return
        self._book.succeeded(
            place.text, now_ms=self._clock.wall_ms(), rtt_ms=info.rtt_ms or 0, region=region
        )

    def _may_probe(self, address: str) -> bool:
        """Whether a probe would dial nobody but the peer: a relay it names has to be linked."""
        if not is_circuit(address):
            return True
        relay = parse_circuit(address).relay
        return any(info.peer == relay for info in self._network.peers())

    def _is_trusted(self, peer: PeerId) -> bool:
        return not self._teller.trusted or peer in self._teller.trusted

    # -- answering

    async def _answer(self, incoming: Incoming) -> Answer:
        await trio.lowlevel.checkpoint()
        assert isinstance(incoming.message, GetAddresses)
        if not self._askers.take(incoming.peer, now_ms=self._minutes()):
            raise Busy("addresses were asked for too often", retry_after_ms=60_000)
        info = next((info for info in self._network.peers() if info.peer == incoming.peer), None)
        listener = scope_of(info.address) if info else Scope.PUBLIC
        own = [
            place.text
            for text in self._teller.own()
            if (place := _place(text)) and may_tell(place.scope, listener)
        ]
        others = [place.text for place in self._tell(listener) if place.peer != incoming.peer]
        answer = GotAddresses(
            region=self._teller.region,
            own=tuple(own[:HELLO_ADDRESSES_MAX]),
            others=tuple(others[: incoming.message.count]),
        )
        return answer, b""

    def _tell(self, listener: Scope) -> list[Place]:
        """What peers of that scope hear: all of a small book, for an hour a part of a large one."""
        now_ms = self._clock.wall_ms()
        until_ms, told = self._told.get(listener, (0, []))
        if now_ms < until_ms <= now_ms + TOLD_FOR_MS:
            return told
        known = self._book.tellable(
            self._dice, listener=listener, count=len(self._book), now_ms=now_ms
        )
        part = min(ADDRESSES_TOLD_MAX, max(TOLD_ALL_MAX, len(known) // TOLD_SHARE))
        if len(known) > part:
            self._told[listener] = now_ms + TOLD_FOR_MS, known[:part]
        return known[:part]

    def _minutes(self) -> int:
        """A clock on which a minute is a second: a bucket counts a token a second."""
        return self._clock.monotonic_ms() // 60


def source_of(info: PeerInfo) -> str:
    """Who told something, for the book: the peer's group; within a machine or site, the peer."""
    place = _place(info.address)
    return place.group if place and place.scope is Scope.PUBLIC else info.peer


def _place(text: str) -> Place | None:
    try:
        return place_of(text)
    except LocalError:
        return None
