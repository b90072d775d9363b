"""How much a gossip envelope holds, told from its bytes before anything is made of them.

Knows the nesting of libp2p's RPC message, and how long one may take. Must not know libp2p's
classes. An empty entry is two bytes on the wire and two hundred in memory: an envelope of one MiB
of them became 99 MiB.
Source: libp2p specs, pubsub, "The RPC" and gossipsub, "Control messages"; protobuf encoding.
"""

import math
from collections import Counter
from collections.abc import Mapping
from typing import Final, Protocol

import trio

from prsm.protocol.errors import WireError
from prsm.protocol.ids import PeerId

# An honest peer names at most 5,000 ids in an IHAVE (gossipsub's own bound).
ENTRIES_MAX: Final = 8_192
ENTRY_BYTES_MIN: Final = 2  # a key and a length
ENVELOPE_DEADLINE_S: Final = 320.0  # for the rest of one that has begun, as for a frame
_VARINT_BYTES_MAX: Final = 10
_LENGTH_DELIMITED: Final = 2
_FIXED: Final = {1: 8, 5: 4}  # wire type -> bytes

_LEAF: Final[Mapping[int, object]] = {}
_PRUNE: Final = {2: _LEAF}  # peers
_CONTROL: Final = {1: _LEAF, 2: _LEAF, 3: _LEAF, 4: _PRUNE, 5: _LEAF}  # ihave iwant graft prune …
_ENVELOPE: Final = {1: _LEAF, 2: _LEAF, 3: _CONTROL}  # subscriptions, publish, control


class Source(Protocol):
    """A peer's stream."""

    async def read(self, n: int | None = None) -> bytes:
        """Wait for the next bytes."""
        ...


class HalfRead:
    """A gossip stream of which what was read of an envelope counts, until it was looked at.

    Args:
        stream: of a peer.
        peer: who.
        held: bytes kept for each peer.
    """

    def __init__(self, stream: Source, peer: PeerId, held: Counter[PeerId]) -> None:
        self._stream, self._peer, self._held = stream, peer, held
        self._count = 0
        self._until_s = math.inf

    async def read(self, n: int | None = None) -> bytes:
        """Wait for the next bytes; for the first ones of an envelope without an end.

        Raises:
            trio.TooSlowError: the rest of an envelope did not come in time.
        """
        with trio.fail_at(self._until_s):
            data = await self._stream.read(n)
        if not self._count:
            self._until_s = trio.current_time() + ENVELOPE_DEADLINE_S
        self._count += len(data)
        self._held[self._peer] += len(data)
        return data

    def done(self) -> None:
        """Nothing of it is kept any more."""
        self._held[self._peer] -= self._count
        if not self._held[self._peer]:
            del self._held[self._peer]
        self._count, self._until_s = 0, math.inf


def check_envelope(raw: bytes) -> None:
    """Refuse an envelope of more entries than any honest peer sends, at all depths together.

    One too short for so many is not looked at: what becomes of it is bounded by its size.

    Raises:
        WireError: too many entries; or no protobuf, of one that is looked at.
    """
    if len(raw) <= ENTRIES_MAX * ENTRY_BYTES_MIN:
        return
    _count(raw, 0, len(raw), _ENVELOPE, 0)


def _count(raw: bytes, at: int, end: int, shape: Mapping[int, object], entries: int) -> int:
    while at < end:
        entries += 1
        if entries > ENTRIES_MAX:
            raise WireError(f"a gossip envelope of over {ENTRIES_MAX} entries", penalty=100)
        key, at = _varint(raw, at, end)
        kind = key & 7
        if kind == 0:
            _, at = _varint(raw, at, end)
        elif kind == _LENGTH_DELIMITED:
            size, at = _varint(raw, at, end)
            inner = shape.get(key >> 3)
            if isinstance(inner, dict) and at + size <= end:
                entries = _count(raw, at, at + size, inner, entries)
            at += size
        elif kind in _FIXED:
            at += _FIXED[kind]
        else:
            raise WireError(f"a gossip envelope with wire type {kind}", penalty=100)
        if at > end:
            raise WireError("a gossip envelope that is cut off", penalty=100)
    return entries


def _varint(raw: bytes, at: int, end: int) -> tuple[int, int]:
    value = shift = 0
    for at_next in range(at + 1, min(at + _VARINT_BYTES_MAX, end) + 1):
        byte = raw[at_next - 1]
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at_next
        shift += 7
    raise WireError("a gossip envelope with a number that does not end", penalty=100)
