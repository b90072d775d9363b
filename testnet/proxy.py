"""Faults between real nodes: every link runs through a TCP proxy of this process, no root needed.

Knows: bytes, time, which node dialled which. Must not know: what the bytes mean. Each node is
told the proxies' ports as its peers' addresses (`launch.Rig`); a connection from
node i to node j uses the ways (i, j) and (j, i), so that a fault may act in one direction only.

TCP hides losses from programs and shows them as time: a lost segment is sent again when a later
one has got through (RACK, RFC 8985), or after the retransmission timeout (RFC 6298, 200 ms on
Linux, doubled each time), and all behind it waits. So loss here is a stall of that length, drawn
for each chunk; a partition is a stall without end, which healing lets go; `cut` resets.
Reordering and duplicates do not get past TCP: they are the simulator's.
"""

import random
import socket
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import permutations
from typing import Final, Self

import trio

HOST: Final = "127.0.0.1"
CHUNK_BYTES: Final = 65_536
CHUNKS_HELD_MAX: Final = 64  # 4 MiB a direction; then the sender feels it, as with a TCP window
RTO_FIRST_MS: Final = 200  # least retransmission timeout of Linux (TCP_RTO_MIN)
RTO_DOUBLINGS_MAX: Final = 4
BACKLOG: Final = 64

Pair = tuple[int, int]  # (from, to): places of nodes in their network


@dataclass(frozen=True, slots=True)
class Conditions:
    """What happens to bytes on their way from one node to another.

    Attributes:
        delay_ms: one way.
        jitter_ms: added at random, from 0 to this; order is kept.
        loss: share of chunks that are lost and come after a retransmission timeout, 0 to 1.
        bytes_per_s: bandwidth of each connection; 0 for no bound.
        is_stalled: nothing gets through until it is over.
    """

    delay_ms: int = 0
    jitter_ms: int = 0
    loss: float = 0.0
    bytes_per_s: int = 0
    is_stalled: bool = False

    def __post_init__(self) -> None:
        assert self.delay_ms >= 0
        assert self.jitter_ms >= 0
        assert self.bytes_per_s >= 0
        assert 0 <= self.loss < 1


CLEAR: Final = Conditions()
STALLED: Final = Conditions(is_stalled=True)


@dataclass(slots=True)
class Way:
    """One direction between two nodes, over all their connections."""

    dice: random.Random
    conditions: Conditions = CLEAR
    bytes_passed: int = 0
    chunks_lost: int = 0
    _opened: trio.Event = field(default_factory=trio.Event)

    def set(self, conditions: Conditions) -> None:
        """From now on; what is already on its way keeps its delay but waits at a stall."""
        self.conditions = conditions
        if not conditions.is_stalled:
            self._opened.set()
            self._opened = trio.Event()

    async def wait_open(self) -> None:
        """Wait until the way is not stalled."""
        while self.conditions.is_stalled:
            await self._opened.wait()

    def late_s(self) -> float:
        """Draw by how much the next chunk is late without being lost, in seconds."""
        now = self.conditions
        jitter_ms = self.dice.randint(0, now.jitter_ms) if now.jitter_ms else 0
        return (now.delay_ms + jitter_ms) / 1000

    def is_lost(self) -> bool:
        """Draw whether the next chunk, or one that is sent again, is lost."""
        lost = bool(self.conditions.loss) and self.dice.random() < self.conditions.loss
        self.chunks_lost += lost
        return lost

    def timeouts_s(self) -> float:
        """Draw for a lost chunk how long the sender's timer alone takes to get it through."""
        late_ms = timeout_ms = RTO_FIRST_MS
        for _ in range(RTO_DOUBLINGS_MAX):
            if not self.is_lost():
                break
            timeout_ms *= 2
            late_ms += timeout_ms
        return late_ms / 1000


@dataclass(slots=True)
class _Held:
    due: float  # trio's time
    data: bytes  # empty: the end of the stream
    hastened: trio.Event = field(default_factory=trio.Event)

    def hasten(self, due: float) -> None:
        """Come earlier than the sender's timer."""
        self.due = min(self.due, due)
        self.hastened.set()

    async def wait_due(self) -> None:
        """Wait until it arrives."""
        with trio.move_on_at(self.due):
            await self.hastened.wait()
        await trio.sleep_until(self.due)


async def pump(source: trio.abc.ReceiveStream, sink: trio.abc.SendStream, way: Way) -> None:
    """Carry bytes as the way lets them, until the source ends or either side breaks."""
    inlet, outlet = trio.open_memory_channel[_Held](CHUNKS_HELD_MAX)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_take, source, inlet, way)
        await _give(outlet, sink, way)
        nursery.cancel_scope.cancel()


async def _take(
    source: trio.abc.ReceiveStream, inlet: trio.MemorySendChannel[_Held], way: Way
) -> None:
    lost: list[_Held] = []
    data = b"more"
    while data:
        try:
            data = bytes(await source.receive_some(CHUNK_BYTES))
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            data = b""  # a reset takes its time on the way like everything else
        now = trio.current_time()
        lost = [each for each in lost if each.due > now]
        due = now + way.late_s()
        if way.is_lost():
            held = _Held(due + way.timeouts_s(), data)
            lost.append(held)
        else:
            # It shows the sender what is missing, and that is sent again: a round trip more.
            held = _Held(due, data)
            again = due + 2 * way.conditions.delay_ms / 1000
            for each in [each for each in lost if not way.is_lost()]:
                each.hasten(again)
                lost.remove(each)
        await inlet.send(held)


async def _give(
    outlet: trio.MemoryReceiveChannel[_Held], sink: trio.abc.SendStream, way: Way
) -> None:
    async for held in outlet:
        await held.wait_due()
        await way.wait_open()
        if not held.data:
            return
        if way.conditions.bytes_per_s:
            await trio.sleep(len(held.data) / way.conditions.bytes_per_s)
            await way.wait_open()
        try:
            await sink.send_all(held.data)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return
        way.bytes_passed += len(held.data)


class Proxy:
    """The links of a network of nodes: one listener for each ordered pair of dialler and dialled.

    Ports are known once it is bound; where the nodes listen is told to `run`.

    Args:
        listeners: a bound, listening socket for each (dialler, dialled).
        seed: of the dice for jitter and loss.
    """

    def __init__(self, listeners: dict[Pair, socket.socket], *, seed: int = 0) -> None:
        self._listeners = listeners
        self.ways = {pair: Way(random.Random(f"{seed} {pair}")) for pair in listeners}
        self._live: dict[Pair, set[trio.CancelScope]] = {pair: set() for pair in listeners}
        self._places = sorted({place for pair in listeners for place in pair})

    @classmethod
    def bind(cls, count: int, *, seed: int = 0, ports: Mapping[Pair, int] | None = None) -> Self:
        """Take a port of loopback for each ordered pair of `count` nodes: a free one, or a given.

        Raises:
            OSError: a given port is taken.
        """
        listeners: dict[Pair, socket.socket] = {}
        try:
            for pair in permutations(range(count), 2):
                listeners[pair] = listener = socket.socket()
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                listener.bind((HOST, ports[pair] if ports else 0))
                listener.listen(BACKLOG)
        except BaseException:
            for listener in listeners.values():
                listener.close()
            raise
        return cls(listeners, seed=seed)

    def port(self, dialler: int, dialled: int) -> int:
        """Where `dialler` finds `dialled`."""
        port: int = self._listeners[dialler, dialled].getsockname()[1]
        return port

    async def run(
        self,
        targets: Sequence[int],
        *,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Carry connections until cancelled; all listeners are closed then.

        Args:
            targets: port of loopback where each node listens, by place.
            task_status: started once every link takes connections.
        """
        async with trio.open_nursery() as nursery:
            for pair, listener in self._listeners.items():
                stream = trio.SocketListener(trio.socket.from_stdlib_socket(listener))
                serve = partial(self._carry, pair, targets[pair[1]])
                nursery.start_soon(trio.serve_listeners, serve, [stream])
            task_status.started()

    def close(self) -> None:
        """Free the ports of a proxy that never ran."""
        for listener in self._listeners.values():
            listener.close()

    def set(self, sender: int, receiver: int, conditions: Conditions) -> None:
        """Give one direction new conditions."""
        self.ways[sender, receiver].set(conditions)

    def set_all(self, conditions: Conditions) -> None:
        """Give every direction the same conditions."""
        for way in self.ways.values():
            way.set(conditions)

    def heal(self) -> None:
        """Let everything through again."""
        self.set_all(CLEAR)

    def partition(self, *groups: Collection[int]) -> None:
        """Stall every way between nodes of different groups; a node in no group is alone."""
        home = {place: number for number, group in enumerate(groups) for place in group}
        for sender, receiver in self.ways:
            if home.get(sender, ~sender) != home.get(receiver, ~receiver):
                self.set(sender, receiver, STALLED)

    def silence(self, sender: int) -> None:
        """Let nothing of a node through, while it hears all others: one way only."""
        for receiver in self._places:
            if receiver != sender:
                self.set(sender, receiver, STALLED)

    def cut(self, one: int, other: int) -> int:
        """Reset the connections between two nodes now; they may connect anew. Says how many."""
        scopes = [*self._live[one, other], *self._live[other, one]]
        for scope in scopes:
            scope.cancel()
        return len(scopes)

    async def _carry(self, pair: Pair, target: int, near: trio.SocketStream) -> None:
        with trio.CancelScope() as scope:
            self._live[pair].add(scope)
            try:
                far = await _connect(target)
                if far is None:
                    return
                dialler, dialled = pair
                with _resetting(near), _resetting(far):
                    async with trio.open_nursery() as nursery:

                        async def flow(
                            source: trio.SocketStream, sink: trio.SocketStream, way: Way
                        ) -> None:
                            await pump(source, sink, way)
                            nursery.cancel_scope.cancel()

                        nursery.start_soon(flow, near, far, self.ways[dialler, dialled])
                        nursery.start_soon(flow, far, near, self.ways[dialled, dialler])
            finally:
                self._live[pair].discard(scope)
                near.socket.close()


async def _connect(port: int) -> trio.SocketStream | None:
    stream = trio.socket.socket()
    try:
        await stream.connect((HOST, port))
    except OSError:
        stream.close()
        return None
    except BaseException:
        stream.close()
        raise
    return trio.SocketStream(stream)


@contextmanager
def _resetting(stream: trio.SocketStream) -> Iterator[None]:
    try:
        yield
    finally:
        stream.socket.close()
