"""The fourth validator: the daemon's own chain part on disks under test, joined to the three.

`Line` is its network: what it sends goes to whoever holds the other end, and what left it is noted
before. Knows: `node/chain`. Must not know: what is done to its disks.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random

import msgspec
import trio

from prsm.node.net.interface import (
    Answer,
    CallHandler,
    Channel,
    GossipHandler,
    Incoming,
    MessageHandler,
    PeerHandler,
    PeerInfo,
)
from prsm.protocol.codec import Record
from prsm.protocol.errors import RemoteError
from prsm.protocol.ids import PeerId
from tests.tools.labs import MICRO, Cluster, make_cluster, transfer

EPOCH_MS = 1_000


@dataclass
class Line:
    """A network of four with one end here: no sockets, no queue that drops."""

    ids: list[PeerId]  # of all four
    left: Callable[[int, Record], None]  # receiver's index, message: it has left
    ask: Callable[[Record], Awaitable[Record]]  # any of the three answers
    handlers: dict[type[Record], MessageHandler] = field(default_factory=dict)
    calls: dict[type[Record], CallHandler] = field(default_factory=dict)
    addresses: Sequence[str] = ()
    penalties: list[str] = field(default_factory=list)

    @property
    def peer_id(self) -> PeerId:
        """Our own identity."""
        return self.ids[0]

    def hear(self, sender: int, message: Record) -> None:
        """A peer said something."""
        handler = self.handlers.get(type(message))
        if handler is not None:
            handler(Incoming(self.ids[sender], message, b"", b""))

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Nothing runs here."""
        task_status.started()
        await trio.sleep_forever()

    def on_message(self, cls: type[Record], handler: MessageHandler) -> None:
        """Register the receiver of a class."""
        self.handlers[cls] = handler

    def on_call(self, cls: type[Record], handler: CallHandler) -> None:
        """Register who answers calls of a class."""
        self.calls[cls] = handler

    def on_gossip(self, topic: str, handler: GossipHandler) -> None:
        """Nothing is gossiped here."""

    def on_peer(self, handler: PeerHandler) -> None:
        """Peers neither come nor go."""

    def peers(self) -> tuple[PeerInfo, ...]:
        """The three."""
        return tuple(PeerInfo(peer, "", True, 0, 0, "") for peer in self.ids[1:])

    async def connect(self, address: str, *, hint: str = "") -> PeerId:
        """All are connected already."""
        raise NotImplementedError(address, hint)

    async def probe(self, address: str) -> PeerId:
        """Nobody is looked for here."""
        raise NotImplementedError(address)

    async def disconnect(self, peer: PeerId, *, hint: str = "") -> None:
        """All stay connected."""

    def send_nowait(
        self,
        peer: PeerId,
        message: Record,
        *,
        channel: Channel,
        tail: bytes = b"",
        trace: bytes = b"",
    ) -> bool:
        """Let a message leave."""
        del channel, tail, trace
        self.left(self.ids.index(peer), message)
        return True

    async def send(
        self,
        peer: PeerId,
        message: Record,
        *,
        channel: Channel,
        tail: bytes = b"",
        trace: bytes = b"",
    ) -> None:
        """Let a message leave."""
        await trio.lowlevel.checkpoint()
        self.send_nowait(peer, message, channel=channel, tail=tail, trace=trace)

    async def call(
        self,
        peer: PeerId,
        message: Record,
        *,
        channel: Channel,
        tail: bytes = b"",
        trace: bytes = b"",
    ) -> Answer:
        """Ask one of the three."""
        del peer, channel, tail, trace
        return await self.ask(message), b""

    async def publish(self, topic: str, record: bytes) -> None:
        """Nobody listens."""

    def penalise(self, peer: PeerId, error: RemoteError) -> None:
        """Note a fault."""
        self.penalties.append(f"{peer}: {error.what}")


@dataclass
class Network:
    """Genesis, keys and clients of a network of four equal stakes."""

    cluster: Cluster
    dice: Random
    nonces: dict[int, int] = field(default_factory=dict)

    @classmethod
    def make(cls, folder: Path, dice: Random) -> "Network":
        """Keys of four labs in a folder; epochs are short so that a run crosses some."""
        cluster = make_cluster(folder)
        genesis = cluster.genesis
        parameters = msgspec.structs.replace(
            genesis.parameters, epoch_ms=EPOCH_MS, block_gap_min_ms=0
        )
        genesis = msgspec.structs.replace(genesis, parameters=parameters)
        return cls(replace(cluster, genesis=genesis), dice)

    @property
    def ids(self) -> list[PeerId]:
        """Peer ids in order of the labs."""
        return [lab.peer for lab in self.cluster.labs]

    @property
    def seeds(self) -> list[bytes]:
        """Consensus keys in order of the labs."""
        return [lab.consensus_seed for lab in self.cluster.labs]

    def transfer(self) -> bytes:
        """The next transfer of one of the clients."""
        labs = self.cluster.labs
        sender, receiver = self.dice.sample(labs, 2)
        nonce = self.nonces.get(sender.index, 0)
        self.nonces[sender.index] = nonce + 1
        payload = transfer(receiver, self.dice.randint(1, MICRO // 1_000))
        return self.cluster.signed(sender, payload, nonce=nonce)
