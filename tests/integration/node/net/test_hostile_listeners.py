"""Who answers a dial with anything but the protocol: the dial fails, and nothing of it stays.

Method: a bare listener says one thing to everybody; a node dials it a few times, sometimes gives
up before it has failed, and has no more open files afterwards than before.
"""

from pathlib import Path

import pytest
import trio
from libp2p.utils.varint import encode_uvarint

from prsm.node.net.host import libp2p_network
from prsm.node.net.interface import PeerUnreachable
from prsm.protocol.ids import PeerId
from prsm.testnet.hostile import line
from tests.tools.networks import CHAIN

pytestmark = pytest.mark.slow
NOBODY = "12D3KooWA4Xop1JaT3MHxwYMkCepYsv4iPVopMXwCz5iHYdBfeSB"
NOISE = line("/multistream/1.0.0") + line("/noise")
SAID = {
    "nothing": b"",
    "junk": b"\xff" * 5_000,
    "line without end": encode_uvarint(2**28) + bytes(2**21),
    "another protocol": line("/multistream/1.0.0") + line("na"),
    "noise that is none": NOISE + b"\x00\x40" + b"\xee" * 64,
    "empty noise": NOISE + b"\x00\x00" * 3,
}


def open_files() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


@pytest.mark.parametrize("name", list(SAID))
async def test_dial_fails_and_leaves_nothing(nursery: trio.Nursery, name: str) -> None:
    async def answer(stream: trio.SocketStream) -> None:
        try:
            await stream.send_all(SAID[name])
            while await stream.receive_some(65536):
                pass
        except trio.BrokenResourceError:
            return
        finally:
            await trio.aclose_forcefully(stream)

    network = libp2p_network(b"\2" * 32, CHAIN, listen=["/ip4/127.0.0.1/tcp/0"])
    await nursery.start(network.run)
    listeners = await nursery.start(trio.serve_tcp, answer, 0)
    port = listeners[0].socket.getsockname()[1]
    before = open_files()
    for _ in range(3):
        with pytest.raises((PeerUnreachable, trio.TooSlowError)), trio.fail_after(0.4):
            await network.connect(f"/ip4/127.0.0.1/tcp/{port}/p2p/{NOBODY}")
    await network.disconnect(PeerId(NOBODY))
    with trio.fail_after(10):
        while open_files() > before:  # noqa: ASYNC110 - a socket that closes is no event here
            await trio.sleep(0.02)
    assert network.restarts == 0
    assert network.peers() == ()
    nursery.cancel_scope.cancel()
