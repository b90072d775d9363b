"""Bytes of any length as sealed chunks, each bound to its place: the STREAM construction.

Knows: chunks, nonces, the end. Must not know: where the key comes from (a password in `backup`, a
recipient in `envelope`), or what the bytes are. Holds at most two chunks. Synchronous: call it in
a thread. Source: docs/spec/storage.md, "Backup" and "Envelope".

Invariants: every chunk is bound to the head, to its place and to whether it is the last one, so
nothing can be exchanged, moved, repeated or cut off; no byte is given out before it is authentic.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import BinaryIO, Final, Protocol

from prsm.protocol.errors import LocalError

PREFIX_BYTES: Final = 7  # of a nonce: then the place, 4 bytes, and whether it is the last
TAG_BYTES: Final = 16


class Cipher(Protocol):
    """Authenticated encryption under one key; `keystore.Box` and `envelope` stand here."""

    def seal(self, nonce: bytes, plain: bytes, *, bound: bytes) -> bytes:
        """Encrypt; 16 bytes longer than `plain`. A nonce (12 bytes) is used once."""
        ...

    def open(self, nonce: bytes, sealed: bytes, *, bound: bytes) -> bytes | None:
        """Decrypt; None if the key is another one or anything was changed."""
        ...


@dataclass(frozen=True, slots=True)
class Sealer:
    """What all chunks of one file share.

    Attributes:
        cipher: under a key that seals nothing else with this prefix.
        prefix: 7 bytes.
        bound: the file's head as it is stored; authenticated with every chunk.
        chunk_bytes: of plain bytes in each chunk but the last.
    """

    cipher: Cipher
    prefix: bytes
    bound: bytes
    chunk_bytes: int

    def nonce(self, place: int, *, is_last: bool) -> bytes:
        """The nonce of a chunk."""
        return self.prefix + place.to_bytes(4, "big") + bytes([is_last])


@dataclass(slots=True)
class Sealing:
    """Cuts what is written into chunks and seals each."""

    file: BinaryIO
    sealer: Sealer
    _place: int = 0
    _waiting: bytearray = field(default_factory=bytearray)

    def write(self, data: bytes) -> None:
        """Take more bytes."""
        size = self.sealer.chunk_bytes
        self._waiting += data
        # A full chunk waits until more comes: only then it is known not to be the last one.
        while len(self._waiting) > size:
            self._seal(bytes(self._waiting[:size]), is_last=False)
            del self._waiting[:size]

    def finish(self) -> None:
        """Seal what waits as the last chunk."""
        self._seal(bytes(self._waiting), is_last=True)

    def _seal(self, chunk: bytes, *, is_last: bool) -> None:
        nonce = self.sealer.nonce(self._place, is_last=is_last)
        self.file.write(self.sealer.cipher.seal(nonce, chunk, bound=self.sealer.bound))
        self._place += 1


@dataclass(slots=True)
class Opening:
    """Opens one chunk after the other.

    Attributes:
        file: at the first chunk.
        sealer: as it was sealed with.
        refusal: the error for the chunk at a place that does not open.
    """

    file: BinaryIO
    sealer: Sealer
    refusal: Callable[[int], LocalError]
    is_last: bool = False  # the last chunk was opened
    _place: int = 0
    _ahead: bytes | None = None

    def next_chunk(self) -> bytes:
        """The next plain chunk; not after the last one. Only a first chunk may be empty.

        Raises:
            LocalError: of `refusal`: it does not open.
        """
        assert not self.is_last
        size = self.sealer.chunk_bytes + TAG_BYTES
        sealed = self.file.read(size) if self._ahead is None else self._ahead
        self._ahead = self.file.read(size)
        self.is_last = not self._ahead
        nonce = self.sealer.nonce(self._place, is_last=self.is_last)
        chunk = self.sealer.cipher.open(nonce, sealed, bound=self.sealer.bound)
        if chunk is None or (self._place and not chunk):
            raise self.refusal(self._place)
        self._place += 1
        return chunk

    def chunks(self) -> Iterator[bytes]:
        """All chunks that are left."""
        while not self.is_last:
            yield self.next_chunk()
