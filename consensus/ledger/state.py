"""An overlay of writes over a reader: a block, and each transaction in it, runs on its own.

Knows keys and canonical values; must not know rules. Values are our own records, written by
`encode`, so reading them back checks their shape but not their spelling.
"""

from functools import cache
from typing import Protocol, TypeVar, final

import msgspec

from prsm.protocol.codec import Record, encode

R = TypeVar("R", bound=Record)
Change = tuple[bytes, bytes | None]


class Reader(Protocol):
    """What an overlay lies over: a mapping of the whole state, or another overlay."""

    def get(self, key: bytes, /) -> bytes | None:
        """Value of a key, None if there is none."""
        ...


@cache
def _decoder(cls: type[R]) -> msgspec.msgpack.Decoder[R]:
    return msgspec.msgpack.Decoder(cls)


def read(reader: Reader, key: bytes, cls: type[R]) -> R | None:
    """Read a record of any reader, None if there is none."""
    raw = reader.get(key)
    return None if raw is None else _decoder(cls).decode(raw)


@final
class State:
    """Reads fall through to what lies below; writes stay until merged or taken as changes."""

    def __init__(self, below: Reader) -> None:
        self._below = below
        self._written: dict[bytes, bytes | None] = {}

    def get(self, key: bytes, /) -> bytes | None:
        """Value of a key, None if there is none."""
        if key in self._written:
            return self._written[key]
        return self._below.get(key)

    def read(self, key: bytes, cls: type[R]) -> R | None:
        """Record of a key, None if there is none."""
        return read(self, key, cls)

    def write(self, key: bytes, record: Record) -> None:
        """Put a record under a key."""
        self._written[key] = encode(record)

    def delete(self, key: bytes) -> None:
        """Leave a key without a record."""
        self._written[key] = None

    def merge(self, above: "State") -> None:
        """Take over all writes of an overlay that lies over this one."""
        assert above._below is self  # noqa: SLF001 - its own class
        self._written.update(above._written)  # noqa: SLF001 - its own class

    def changes(self) -> list[Change]:
        """Writes that differ from what lies below, ascending by key."""
        return [
            (key, value)
            for key, value in sorted(self._written.items())
            if self._below.get(key) != value
        ]
