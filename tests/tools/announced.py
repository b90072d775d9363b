"""Records and items of gossip for tests: signed by the authors 1, 2, 3 …, or by nobody."""

from prsm.node.net.records import Item
from prsm.protocol.codec import encode
from prsm.protocol.ed25519 import Ed25519Signer
from prsm.protocol.messages.announce import BLOCKS, Announced, NewBlock
from prsm.protocol.messages.net import GossipRecord

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
