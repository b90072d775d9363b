"""What IPFS programs send, as functions of bytes for `targets`."""

from prsm.node.net.bitswap.wanted import Wanted
from prsm.node.net.bitswap.wire import decode_message, digest_of, is_sha256


def bitswap(data: bytes) -> None:
    """A message of an IPFS peer, taken in as far as it needs neither store nor stream."""
    message = decode_message(data)
    Wanted().take(message.entries, is_full=message.is_full)
    for prefix, _ in message.blocks:
        is_sha256(prefix)
    for cid, _ in message.presences:
        digest_of(cid)
