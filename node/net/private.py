"""A private network: every byte of a connection under one key that all its nodes share.

Who lacks the key cannot say a word that is understood, and reads nothing: not even which protocols
are spoken. Knows the cipher. Must not know peers. Source: libp2p specs,
pnet/Private-Networks-PSK-V1: each side sends a nonce of 24 bytes, then XSalsa20. Stock libp2p
0.8.1 has 8 bytes of nonce and plain Salsa20, which no other implementation reads, and takes a
short read of the nonce for a fault; so this stands in for it. The key keeps strangers out; that
nobody changes or repeats bytes is Noise's work, inside.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final

import trio
from Crypto.Cipher import Salsa20  # nosec B413 - PyCryptodome, which is maintained
from libp2p.abc import IRawConnection
from libp2p.network.connection.raw_connection import RawConnection
from typing_extensions import override

from prsm.node.net.interface import PeerUnreachable
from prsm.protocol.ids import PeerId

NONCE_BYTES: Final = 24
DIAL_LONGEST_S: Final = 30.0  # callers set deadlines; this only ends what nobody waits for
UPGRADE_DEADLINE_S: Final = 4.0  # within the 5 s of a dial, so that a wrong key is named
_SIGMA: Final = (0x61707865, 0x3320646E, 0x79622D32, 0x6B206574)  # "expand 32-byte k"
_WORD: Final = 0xFFFFFFFF
# Of a double round of Salsa20: columns, then rows; each word takes the sum of two others.
_QUARTERS: Final = (
    *((0, 4, 8, 12), (5, 9, 13, 1), (10, 14, 2, 6), (15, 3, 7, 11)),
    *((0, 1, 2, 3), (5, 6, 7, 4), (10, 11, 8, 9), (15, 12, 13, 14)),
)

_sealed: ContextVar[list[RawConnection] | None] = ContextVar("sealed", default=None)


class WrongNetworkKey(PeerUnreachable):
    """Somebody answers there, and not under this network's key."""

    reason = "wrong_network_key"


class PrivateConnection(RawConnection):
    """A raw connection whose bytes are enciphered both ways.

    Args:
        inner: the connection below.
        key: 32 bytes, of the network.
    """

    def __init__(self, inner: RawConnection, key: bytes) -> None:
        super().__init__(inner.stream, inner.is_initiator)
        self._key = key
        self._nonce: bytes | None = os.urandom(NONCE_BYTES)
        self._out = _cipher(key, self._nonce)
        self._in: Salsa20.Salsa20Cipher | None = None

    def seal(self, data: bytes) -> bytes:
        """Encipher the next bytes to send; the first ones follow our nonce."""
        nonce, self._nonce = self._nonce or b"", None
        return nonce + self._out.encrypt(data)

    def open(self, data: bytes) -> bytes:
        """Decipher the next bytes that came, once the peer's nonce is known."""
        assert self._in is not None
        return self._in.decrypt(data)

    @override
    async def write(self, data: bytes) -> None:
        """Encipher and write."""
        await super().write(self.seal(data))

    @override
    async def read(self, n: int | None = None) -> bytes:
        """Read and decipher at most n bytes; empty at the end."""
        if self._in is None:
            nonce = b""
            while len(nonce) < NONCE_BYTES:
                part = await super().read(NONCE_BYTES - len(nonce))
                if not part:
                    return b""
                nonce += part
            self._in = _cipher(self._key, nonce)
        data = await super().read(n)
        return self._in.decrypt(data) if data else b""


def protect(connection: RawConnection | IRawConnection, psk: str) -> PrivateConnection:
    """What stands in for libp2p's `new_protected_conn`; notes for the dial that TCP is there."""
    assert isinstance(connection, RawConnection)
    private = PrivateConnection(connection, bytes.fromhex(psk))
    if (noted := _sealed.get()) is not None:
        noted.append(private)
    return private


@contextmanager
def dialling(peer: PeerId, where: str, *, private: bool) -> Iterator[None]:
    """Name what keeps a dial inside the block from succeeding.

    Raises:
        WrongNetworkKey: of a private network: somebody answers there, and is not understood.
        PeerUnreachable: any other failure.
    """
    connected: list[RawConnection] = []
    _sealed.set(connected)
    try:
        with trio.fail_after(UPGRADE_DEADLINE_S if private else DIAL_LONGEST_S):
            yield
    except Exception as error:
        if connected:
            raise WrongNetworkKey(
                f"{where} answers, but not as {peer} under this network's key",
                hint="put one key file on both nodes (net.psk_file in config.toml), start again",
            ) from error
        raise PeerUnreachable(f"nobody answers as {peer} at {where}: {error}") from error


def hsalsa20(key: bytes, block: bytes) -> bytes:
    """The key XSalsa20 derives from its own (32 bytes) and the first 16 bytes of a nonce.

    Source: Bernstein, "Extending the Salsa20 nonce" (2011), section 2.
    """
    k = [int.from_bytes(key[at : at + 4], "little") for at in range(0, 32, 4)]
    n = [int.from_bytes(block[at : at + 4], "little") for at in range(0, 16, 4)]
    x = [_SIGMA[0], *k[:4], _SIGMA[1], *n, _SIGMA[2], *k[4:], _SIGMA[3]]
    for _ in range(10):
        for a, b, c, d in _QUARTERS:
            x[b] ^= _turned(x[a] + x[d], 7)
            x[c] ^= _turned(x[b] + x[a], 9)
            x[d] ^= _turned(x[c] + x[b], 13)
            x[a] ^= _turned(x[d] + x[c], 18)
    return b"".join(x[at].to_bytes(4, "little") for at in (0, 5, 10, 15, 6, 7, 8, 9))


def _turned(word: int, bits: int) -> int:
    word &= _WORD
    return (word << bits | word >> (32 - bits)) & _WORD


def _cipher(key: bytes, nonce: bytes) -> Salsa20.Salsa20Cipher:
    return Salsa20.new(key=hsalsa20(key, nonce[:16]), nonce=nonce[16:])
