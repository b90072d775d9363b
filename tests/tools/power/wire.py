"""What goes through the socket between a validator that is killed and the rest of the network.

A frame is `length u32 | kind u8 | sender u8 | bytes`. A killed process leaves what it wrote: the
system delivers it, so the other end knows everything that was ever signed and sent.
"""

from collections.abc import Iterator
from struct import Struct
from typing import Final

from prsm.protocol.codec import Record, decode, encode
from prsm.protocol.limits import BULK_FRAME_BYTES_MAX
from prsm.protocol.messages.consensus import SignedMessage, Status
from prsm.protocol.messages.sync import GetBlockByHash, GetBlocks, GotBlock, GotBlocks

HEAD: Final = Struct(">IBB")
# What is no message between nodes: a note of the process to its keeper, a transaction to it.
BORN, ACKED, TRANSACTION, OBSERVES = 100, 101, 102, 103
RECORDS: Final[tuple[type[Record], ...]] = (
    SignedMessage,
    Status,
    GetBlocks,
    GotBlocks,
    GetBlockByHash,
    GotBlock,
)


def pack(sender: int, message: Record) -> bytes:
    """A frame of a message."""
    return frame(RECORDS.index(type(message)), sender, encode(message))


def frame(kind: int, sender: int, raw: bytes) -> bytes:
    """A frame of bytes."""
    return HEAD.pack(len(raw), kind, sender) + raw


def unpack(kind: int, raw: bytes) -> Record:
    """The message of a frame."""
    return decode(raw, RECORDS[kind], size_max=BULK_FRAME_BYTES_MAX)


class Frames:
    """Cuts a stream into frames; a last one that is not whole is never seen."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, raw: bytes) -> Iterator[tuple[int, int, bytes]]:
        """Take bytes; give (kind, sender, bytes) of each frame they complete."""
        self._buffer += raw
        while len(self._buffer) >= HEAD.size:
            length, kind, sender = HEAD.unpack_from(self._buffer)
            end = HEAD.size + length
            if len(self._buffer) < end:
                return
            body = bytes(self._buffer[HEAD.size : end])
            del self._buffer[:end]
            yield kind, sender, body
