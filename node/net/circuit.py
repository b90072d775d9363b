"""One hop of a circuit: a byte stream to a neighbour, as messages with credit both ways.

Knows windows, pieces and ends. Must not know who relays, nor what the bytes mean: to a relay they
are cipher text. A circuit has one hop on each side of its relay; both are instances of this.

Invariants: of a hop at most `CIRCUIT_WINDOW_BYTES` wait here, whatever the neighbour does; more is
a fault of it. What was heard before the end can still be read; after the end nothing is written.
"""

import logging
from collections import Counter, deque
from typing import Final

import trio

from prsm.node.net.interface import Channel, Incoming, Network, PeerEvent, PeerUnreachable
from prsm.node.net.streams import StreamLost
from prsm.protocol.errors import PrsmError, RemoteError
from prsm.protocol.ids import PeerId
from prsm.protocol.limits import CIRCUIT_PIECE_BYTES_MAX, CIRCUIT_WINDOW_BYTES, TEXT_BYTES_MAX
from prsm.protocol.messages.reach import CircuitCredit, CircuitData, CircuitEnd

# Told in quarters: a full window never waits for credit that is only just on its way.
CREDIT_BYTES_MIN: Final = CIRCUIT_WINDOW_BYTES // 4
END_DEADLINE_S: Final = 2.0
ENDED_REMEMBERED_MAX: Final = 1024

log = logging.getLogger(__name__)


class CircuitAbused(RemoteError):
    """A neighbour sent what no honest one sends on a circuit."""

    reason = "circuit_abused"


class Hop:
    """A byte stream to one neighbour; `Duplex`.

    Args:
        network: carries the messages.
        peer: the neighbour.
        number: of the circuit between the two.
    """

    def __init__(self, network: Network, peer: PeerId, number: int) -> None:
        self.peer = peer
        self.number = number
        self.why = ""  # why it ended
        self.heard_bytes = 0
        self._network = network
        self._waiting = bytearray()
        self._unsent_bytes = 0  # of what is being written
        self._owed = 0  # read here, not yet told
        self._room = CIRCUIT_WINDOW_BYTES  # may still be sent
        self._changed = trio.lowlevel.ParkingLot()
        self.over = trio.Event()  # nothing is written any more; what was heard may be read

    @property
    def is_over(self) -> bool:
        """Whether it has ended."""
        return self.over.is_set()

    @property
    def unread_bytes(self) -> int:
        """Sent, and not told to be read by the neighbour; he tells in `CREDIT_BYTES_MIN`."""
        return 0 if self.is_over else CIRCUIT_WINDOW_BYTES - self._room

    @property
    def held_bytes(self) -> int:
        """Kept here for the neighbour: heard and not read, or to be sent when it gives room."""
        return len(self._waiting) + self._unsent_bytes

    async def wait_moved(self) -> None:
        """Wait until something was sent, or read there, or it has ended."""
        await trio.lowlevel.checkpoint()
        if not self.is_over:
            await self._changed.park()

    async def read_some(self, bytes_max: int) -> bytes:
        """Wait for the next bytes, at most that many; empty when it has ended.

        Raises:
            StreamLost: the neighbour is gone.
        """
        await trio.lowlevel.checkpoint()
        while not self._waiting:
            if self.is_over:
                return b""
            await self._changed.park()
        data = bytes(self._waiting[:bytes_max])
        del self._waiting[:bytes_max]
        self._owed += len(data)
        if self._owed >= CREDIT_BYTES_MIN and not self.is_over:
            told, self._owed = self._owed, 0
            await self._say(CircuitCredit(circuit=self.number, count=told))
        return data

    async def write_all(self, data: bytes) -> None:
        """Send all bytes, as the neighbour gives room.

        Raises:
            StreamLost: it has ended, or the neighbour is gone.
        """
        view = memoryview(data)
        self._unsent_bytes += len(view)
        try:
            while view:
                while not self._room and not self.is_over:
                    await self._changed.park()
                if self.is_over:
                    raise StreamLost(f"the circuit has ended: {self.why}")
                piece = bytes(view[: min(self._room, CIRCUIT_PIECE_BYTES_MAX)])
                view = view[len(piece) :]
                self._unsent_bytes -= len(piece)
                self._room -= len(piece)
                self._changed.unpark_all()
                await self._say(CircuitData(circuit=self.number), piece)
        finally:
            self._unsent_bytes -= len(view)

    async def close(self, why: str) -> None:
        """End it and tell the neighbour, once; never raises."""
        if self.is_over:
            return
        self.end(why)
        with trio.move_on_after(END_DEADLINE_S, shield=True):
            try:
                await self._say(CircuitEnd(circuit=self.number, why=why[:TEXT_BYTES_MAX]))
            except PrsmError as error:
                log.debug("the end of circuit %d was not told: %s", self.number, error.what)

    def end(self, why: str) -> None:
        """End it without a word: the neighbour knows, or is gone."""
        if not self.is_over:
            self.why = why
            self.over.set()
            self._changed.unpark_all()

    def hear(self, data: bytes) -> None:
        """Take bytes that arrived.

        Raises:
            CircuitAbused: none, or more than there was credit for.
        """
        if self.is_over:
            return
        held = len(self._waiting) + self._owed
        if not data or held + len(data) > CIRCUIT_WINDOW_BYTES:
            self.end("the neighbour broke the window")
            raise CircuitAbused(
                f"{held + len(data)} bytes on circuit {self.number}, window {CIRCUIT_WINDOW_BYTES}",
                peer=self.peer,
                penalty=50,
            )
        self._waiting += data
        self.heard_bytes += len(data)
        self._changed.unpark_all()

    def credit(self, count: int) -> None:
        """Take the neighbour's word that it has read.

        Raises:
            CircuitAbused: more than was ever sent.
        """
        if self._room + count > CIRCUIT_WINDOW_BYTES:
            self.end("the neighbour gave credit for what was not sent")
            raise CircuitAbused(
                f"credit of {count} bytes on circuit {self.number}, {self._room} were free of "
                f"{CIRCUIT_WINDOW_BYTES}",
                peer=self.peer,
                penalty=50,
            )
        self._room += count
        self._changed.unpark_all()

    async def _say(
        self, message: CircuitData | CircuitCredit | CircuitEnd, tail: bytes = b""
    ) -> None:
        try:
            await self._network.send(self.peer, message, channel=Channel.BULK, tail=tail)
        except PeerUnreachable as error:
            self.end(error.what)
            raise StreamLost(f"the neighbour of a circuit is gone: {error.what}") from error


class Circuits:
    """All hops of a node, by neighbour and number.

    Args:
        network: not running yet; its circuit messages are taken from now on.
    """

    def __init__(self, network: Network) -> None:
        self._network = network
        self._hops: dict[tuple[PeerId, int], Hop] = {}
        self._ended: deque[tuple[PeerId, int]] = deque(maxlen=ENDED_REMEMBERED_MAX)
        self._count = 0
        network.on_message(CircuitData, self._on_data)
        network.on_message(CircuitCredit, self._on_credit)
        network.on_message(CircuitEnd, self._on_end)
        network.on_peer(self._on_peer)

    def __len__(self) -> int:
        return len(self._hops)

    def open(self, peer: PeerId) -> Hop:
        """A hop of our own asking, with a number no other has."""
        self._count += 1
        return self._add(peer, 2 * self._count + (self._network.peer_id > peer))

    def take(self, peer: PeerId, number: int) -> Hop:
        """A hop of the neighbour's asking.

        Raises:
            CircuitAbused: a number it may not choose, or that is in use.
        """
        ours = self._network.peer_id < peer
        if (number % 2 == 0) is ours or (peer, number) in self._hops:
            raise CircuitAbused(
                f"circuit number {number} is not {peer}'s to choose", peer=peer, penalty=50
            )
        return self._add(peer, number)

    def forget(self, hop: Hop) -> None:
        """Let go of a hop that has ended; what still arrives for it is late, and no fault."""
        assert hop.is_over
        if self._hops.get((hop.peer, hop.number)) is hop:
            del self._hops[hop.peer, hop.number]
            self._ended.append((hop.peer, hop.number))

    def held(self) -> Counter[PeerId]:
        """Bytes kept for each neighbour."""
        held: Counter[PeerId] = Counter()
        for hop in self._hops.values():
            held[hop.peer] += hop.held_bytes
        return held

    def of(self, peer: PeerId) -> int:
        """How many hops there are with a neighbour."""
        return sum(1 for other, _ in self._hops if other == peer)

    def _add(self, peer: PeerId, number: int) -> Hop:
        hop = self._hops[peer, number] = Hop(self._network, peer, number)
        return hop

    def _find(self, peer: PeerId, number: int) -> Hop | None:
        hop = self._hops.get((peer, number))
        if hop is None and (peer, number) not in self._ended:
            raise CircuitAbused(f"circuit {number} was never opened", peer=peer, penalty=5)
        return hop

    def _on_data(self, incoming: Incoming) -> None:
        assert isinstance(incoming.message, CircuitData)
        if hop := self._find(incoming.peer, incoming.message.circuit):
            hop.hear(incoming.tail)

    def _on_credit(self, incoming: Incoming) -> None:
        assert isinstance(incoming.message, CircuitCredit)
        if hop := self._find(incoming.peer, incoming.message.circuit):
            hop.credit(incoming.message.count)

    def _on_end(self, incoming: Incoming) -> None:
        assert isinstance(incoming.message, CircuitEnd)
        # No fault where there is none: who took an answer for lost says so of what was refused.
        if hop := self._hops.get((incoming.peer, incoming.message.circuit)):
            hop.end(incoming.message.why)

    def _on_peer(self, event: PeerEvent) -> None:
        if not event.up:
            for hop in [hop for hop in self._hops.values() if hop.peer == event.peer]:
                hop.end(f"peer {event.peer} was lost: {event.why}")
