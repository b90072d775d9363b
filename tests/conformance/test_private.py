"""Private networks: an allow-list over every `Network`, a shared key over libp2p."""

import contextlib
import functools
from collections.abc import AsyncIterator

import pytest
import trio
from typing_extensions import override

from prsm.node.net.entry import EntryRules, NotAllowed
from prsm.node.net.host import Libp2pTransport
from prsm.node.net.interface import Channel, PeerUnreachable
from prsm.node.net.private import NONCE_BYTES, WrongNetworkKey, _cipher
from prsm.protocol.limits import MIB
from tests.tools.networks import ASK, HAVE, World, answering

KEY, OTHER_KEY = bytes(range(32)), bytes(32)


@pytest.fixture(params=["memory", pytest.param("libp2p", marks=pytest.mark.slow)])
async def world(request: pytest.FixtureRequest, nursery: trio.Nursery) -> AsyncIterator[World]:
    with trio.fail_after(50):
        yield World(nursery, request.param)
        nursery.cancel_scope.cancel()


def only(world: World, *numbers: int) -> EntryRules:
    return EntryRules(trusted=frozenset(world.transport(n).peer_id for n in numbers))


async def test_peers_of_the_allow_list_are_linked(world: World) -> None:
    rules = only(world, 1, 2)
    one = await world.start(1, lambda network: network.admit(rules))
    two = await world.start(2, lambda network: network.admit(rules))
    await one.network.connect(two.address)
    await two.wait_up(one.peer)


async def test_stranger_is_refused_by_name_on_both_sides(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    rules = only(world, 3)
    one, two = await world.start(1), await world.start(2, lambda n: n.admit(rules))
    with pytest.raises(NotAllowed, match="allow-list") as refused:
        await one.network.connect(two.address)
    assert "net.trusted" in refused.value.hint
    said = f"{one.peer} is not one of the 1 of net.trusted"
    while said not in caplog.text:  # noqa: ASYNC110 - a line of a log is no event
        await trio.sleep(0.02)
    assert one.network.peers() == two.network.peers() == ()
    assert one.network.bans() == two.network.bans() == ()


async def test_node_with_an_allow_list_dials_no_stranger(world: World) -> None:
    rules = only(world, 3)
    one, two = await world.start(1, lambda n: n.admit(rules)), await world.start(2)
    with pytest.raises(NotAllowed, match=r"net\.trusted") as refused:
        await one.network.connect(two.address)
    assert str(two.peer) in refused.value.hint
    assert two.events == []


async def test_full_node_takes_no_more_but_what_it_dials(world: World) -> None:
    rules = EntryRules(peers_max=2)
    full = await world.start(1, lambda network: network.admit(rules))
    others = [await world.start(number) for number in (2, 3, 4)]
    await others[0].network.connect(full.address)
    await full.wait_up(others[0].peer)
    with pytest.raises(PeerUnreachable):
        await others[1].network.connect(full.address)
    await full.network.connect(others[2].address)
    assert {info.peer for info in full.network.peers()} == {others[0].peer, others[2].peer}


class Private(World):
    """Nodes over libp2p, each with a network key of its own choice."""

    def __init__(self, nursery: trio.Nursery, keys: dict[int, bytes]) -> None:
        super().__init__(nursery, "libp2p")
        self.keys = keys

    @override
    def transport(self, number: int) -> Libp2pTransport:
        seed, psk = bytes([number]) * 32, self.keys.get(number)
        return Libp2pTransport(seed, listen=["/ip4/127.0.0.1/tcp/0"], psk=psk)


@pytest.mark.slow
async def test_nodes_with_one_key_are_linked_and_carry_bulk(nursery: trio.Nursery) -> None:
    private = Private(nursery, {1: KEY, 2: KEY})
    body = bytes(range(256)) * (3 * MIB // 256)
    with trio.fail_after(30):
        one, two = await private.pair(answering(lambda _incoming: (HAVE, body)))
        answer, tail = await one.network.call(two.peer, ASK, channel=Channel.BULK)
    assert (answer, tail) == (HAVE, body)
    nursery.cancel_scope.cancel()


class Tap:
    """A TCP relay to one port that keeps what the dialler sends."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.heard = bytearray()

    async def serve(self, near: trio.SocketStream) -> None:
        far = await trio.open_tcp_stream("127.0.0.1", self.port)
        async with near, far, trio.open_nursery() as nursery:
            nursery.start_soon(self._pass_on, near, far, self.heard)
            nursery.start_soon(self._pass_on, far, near, bytearray())

    async def _pass_on(
        self, source: trio.SocketStream, sink: trio.SocketStream, kept: bytearray
    ) -> None:
        with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            async for data in source:
                kept += data
                await sink.send_all(data)


@pytest.mark.slow
async def test_every_byte_is_under_the_key_also_after_the_handshake(nursery: trio.Nursery) -> None:
    """What went over the wire, deciphered, is lines and Noise packets to its very end."""
    private = Private(nursery, {1: KEY, 2: KEY})
    one = await private.start(1)
    two = await private.start(2, answering(lambda _incoming: (HAVE, b"")))
    tap = Tap(int(two.address.split("/")[4]))
    [listener] = await nursery.start(
        functools.partial(trio.serve_tcp, tap.serve, 0, host="127.0.0.1")
    )
    port = listener.socket.getsockname()[1]
    with trio.fail_after(20):
        await one.network.connect(two.address.replace(f"/{tap.port}/", f"/{port}/"))
        await one.network.call(two.peer, ASK, channel=Channel.BULK, tail=bytes(100_000))
    raw = bytes(tap.heard)
    plain = _cipher(KEY, raw[:NONCE_BYTES]).decrypt(raw[NONCE_BYTES:])
    assert plain.startswith(b"\x13/multistream/1.0.0\n\x07/noise\n")
    at = 20 + 8
    while at < len(plain):
        at += 2 + int.from_bytes(plain[at : at + 2], "big")
    assert at == len(plain) > 100_000
    nursery.cancel_scope.cancel()


@pytest.mark.slow
@pytest.mark.parametrize("keys", [{1: KEY, 2: OTHER_KEY}, {1: KEY}])
async def test_wrong_key_is_refused_by_name_within_the_dial(
    nursery: trio.Nursery, keys: dict[int, bytes]
) -> None:
    private = Private(nursery, keys)
    one, two = await private.start(1), await private.start(2)
    with trio.fail_after(5), pytest.raises(WrongNetworkKey, match="answers") as refused:
        await one.network.connect(two.address)
    assert "net.psk_file" in refused.value.hint
    assert one.network.peers() == two.network.peers() == ()
    nursery.cancel_scope.cancel()


@pytest.mark.slow
async def test_node_without_a_key_gets_nothing_out_of_a_private_one(nursery: trio.Nursery) -> None:
    private = Private(nursery, {2: KEY})
    one, two = await private.start(1), await private.start(2)
    with trio.fail_after(12), pytest.raises(PeerUnreachable):
        await one.network.connect(two.address)
    assert two.network.peers() == ()
    assert two.network.bans() == ()
    nursery.cancel_scope.cancel()


@pytest.mark.slow
async def test_nobody_there_is_not_called_a_wrong_key(nursery: trio.Nursery) -> None:
    private = Private(nursery, {1: KEY, 2: KEY})
    one, two = await private.start(1), await private.start(2)
    address = two.address
    two.scope.cancel()
    await two.stopped.wait()
    with pytest.raises(PeerUnreachable) as refused:
        await one.network.connect(address)
    assert not isinstance(refused.value, WrongNetworkKey)
    nursery.cancel_scope.cancel()
