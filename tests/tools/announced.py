"""Records and items of gossip for tests, and an announcer on a wire without peers' nodes."""

import random
from dataclasses import dataclass, field

from typing_extensions import override

from prsm.node.net.interface import GossipHandler, Network, PeerEvent
from prsm.node.net.records import Item
from prsm.node.peers.announce import Announcer, Ground
from prsm.protocol.codec import encode
from prsm.protocol.ed25519 import Ed25519Signer, Ed25519Verifier
from prsm.protocol.identity import peer_id_of
from prsm.protocol.ids import Millis, PeerId
from prsm.protocol.messages.announce import BLOCKS, Announced, NewBlock
from prsm.protocol.messages.net import GossipRecord
from tests.tools.wires import Wire

CHAIN = b"testnet1"
TOPIC = "t"
TTL_MS = 90_000


def author(number: int) -> bytes:
    """An author nobody has the key of."""
    return number.to_bytes(32, "big")


def item(
    number: int, made_ms: int, *, key: bytes = b"", body: bytes = b"", topic: str = TOPIC
) -> Item:
    """An unsigned item of author `number`."""
    record = GossipRecord(
        chain=CHAIN,
        topic=topic,
        author=author(number),
        made_ms=made_ms,
        body=encode(Announced(key=key, sequence=1, content=body)),
        signature=bytes(64),
    )
    return Item.of(record, encode(record), key=key, ttl_ms=TTL_MS)


def signed(signer: Ed25519Signer, **fields: object) -> GossipRecord:
    """A record of `NewBlock`, signed; `fields` replace its own before."""
    content = encode(NewBlock(height=3, block_hash=b"h" * 32))
    values: dict[str, object] = {
        "chain": CHAIN,
        "topic": BLOCKS.name,
        "author": bytes(signer.public_key),
        "made_ms": 1_000,
        "body": encode(Announced(key=b"", sequence=1, content=content)),
        "signature": bytes(64),
        **fields,
    }
    unsigned = GossipRecord(**values)  # type: ignore[arg-type]  # hostile values are the point
    values["signature"] = signer.sign(unsigned.signed_bytes)
    return GossipRecord(**values)  # type: ignore[arg-type]  # as above


def signer(number: int) -> Ed25519Signer:
    """The node key number `number`."""
    return Ed25519Signer(bytes([number]) * 32)


def peer(number: int) -> PeerId:
    """The node that holds it."""
    return peer_id_of(signer(number).public_key)


@dataclass
class SetClock:
    """Both clocks are what a test says."""

    now_ms: int = 1_000_000

    def monotonic_ms(self) -> Millis:
        return Millis(self.now_ms)

    def wall_ms(self) -> Millis:
        return Millis(self.now_ms)


@dataclass
class GossipWire(Wire):
    """A wire on which a test gossips, and that notes what is published."""

    gossip: dict[str, GossipHandler] = field(default_factory=dict)
    published: list[tuple[str, bytes]] = field(default_factory=list)

    @override
    def on_gossip(self, topic: str, handler: GossipHandler) -> None:
        self.gossip[topic] = handler

    @override
    async def publish(self, topic: str, record: bytes) -> None:
        self.published.append((topic, record))

    def up(self, who: PeerId) -> None:
        for watcher in self.watchers:
            watcher(PeerEvent(who, up=True))


def ground(number: int, clock: SetClock | None = None, seed: int = 1) -> Ground:
    """What node `number` stands on."""
    return Ground(
        chain_id=CHAIN,
        signer=signer(number),
        verifier=Ed25519Verifier(),
        clock=clock or SetClock(),
        dice=random.Random(f"{number} {seed}").randrange,
        salt=b"salt",
    )


def announcer(network: Network, number: int = 100, clock: SetClock | None = None) -> Announcer:
    """An announcer of node `number`."""
    return Announcer(network, ground(number, clock))
