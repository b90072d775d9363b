"""The cipher of private networks against libsodium and published vectors."""

import inspect

from hypothesis import given
from hypothesis import strategies as st
from libp2p.io.abc import ReadWriteCloser
from libp2p.network import swarm
from libp2p.network.connection.raw_connection import RawConnection
from nacl.secret import SecretBox
from typing_extensions import override

from prsm.node.net import guard
from prsm.node.net.private import (
    NONCE_BYTES,
    PrivateConnection,
    _cipher,
    hsalsa20,
    protect,
)

KEY = bytes(range(32))


def test_hsalsa20_gives_the_published_vectors() -> None:
    """Bernstein, "Cryptography in NaCl" (2009), section 8: `firstkey` and `secondkey`."""
    shared = bytes.fromhex("4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742")
    first = bytes.fromhex("1b27556473e985d462cd51197a9a46c76009549eac6474f206c4ee0844f68389")
    nonce = bytes.fromhex("69696ee955b62b73cd62bda875fc73d6")
    second = bytes.fromhex("dc908dda0b9344a953629b733820778880f3ceb421bb61b91cbd4c3e66256ce4")
    assert hsalsa20(shared, bytes(16)) == first
    assert hsalsa20(first, nonce) == second


@given(key=st.binary(min_size=32, max_size=32), nonce=st.binary(min_size=24, max_size=24))
def test_cipher_is_xsalsa20_of_libsodium(key: bytes, nonce: bytes) -> None:
    """A secret box of zeros shows libsodium's key stream from its 33rd byte on."""
    box = SecretBox(key).encrypt(bytes(100), nonce).ciphertext
    assert _cipher(key, nonce).encrypt(bytes(132))[32:] == box[16:]


class Pipe(ReadWriteCloser):
    """Bytes in memory, read in pieces of at most five."""

    def __init__(self) -> None:
        self.data = bytearray()

    @override
    async def write(self, data: bytes) -> None:
        self.data += data

    @override
    async def read(self, n: int | None = None) -> bytes:
        size = min(5, n if n is not None else 5)
        taken = bytes(self.data[:size])
        del self.data[:size]
        return taken

    @override
    async def close(self) -> None:
        """Nothing is open."""

    @override
    def get_remote_address(self) -> tuple[str, int] | None:
        return None


async def test_bytes_arrive_in_pieces_and_are_unreadable_on_the_way() -> None:
    pipe = Pipe()
    one = PrivateConnection(RawConnection(pipe, True), KEY)
    two = PrivateConnection(RawConnection(pipe, False), KEY)
    await one.write(b"hello ")
    await one.write(b"peer")
    assert b"hello" not in pipe.data
    assert len(pipe.data) == NONCE_BYTES + 10
    got = b""
    while part := await two.read(100):
        got += part
    assert got == b"hello peer"
    pipe.data += one.seal(b" again")
    assert two.open(bytes(pipe.data)) == b" again"


async def test_another_key_reads_noise() -> None:
    pipe = Pipe()
    await PrivateConnection(RawConnection(pipe, True), KEY).write(b"x" * 40)
    got = await PrivateConnection(RawConnection(pipe, False), bytes(32)).read(40)
    assert got
    assert b"xx" not in got


async def test_end_within_the_nonce_is_an_end() -> None:
    pipe = Pipe()
    pipe.data += b"short"
    assert await PrivateConnection(RawConnection(pipe, False), KEY).read(10) == b""


def test_libp2p_makes_its_private_connections_by_the_name_we_replace() -> None:
    """An upgrade that renames it would bring the stock cipher back without a word."""
    guard.apply()
    assert vars(swarm)["new_protected_conn"] is protect
    source = inspect.getsource(swarm.Swarm)
    assert source.count("new_protected_conn(raw_conn, self.psk)") == 3
