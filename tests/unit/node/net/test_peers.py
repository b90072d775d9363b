"""Places for peers: those who dial us cannot take the ones kept for whom we dial."""

import gc
from functools import partial

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from prsm.node.net.entry import INBOUND_MAX, OUTBOUND_KEPT
from prsm.node.net.interface import PeerUnreachable
from prsm.node.net.memory import MemoryHub
from prsm.node.net.network import PeerNetwork
from prsm.node.net.peers import Connection
from prsm.protocol.identity import peer_id_of
from prsm.protocol.ids import PeerId
from tests.tools.networks import CHAIN


async def test_crowd_that_dials_leaves_room_for_those_we_dial(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    """120 come in, the next is turned away, and the node still reaches eight of its own choice."""
    assert autojump_clock.rate == 0
    hub = MemoryHub()

    async def start(number: int) -> PeerNetwork:
        network = hub.network(number.to_bytes(32, "big"), CHAIN)
        await nursery.start(network.run)
        return network

    victim = await start(0)
    crowd = [await start(1 + number) for number in range(INBOUND_MAX + 5)]
    for each in crowd:
        nursery.start_soon(dial, each, victim.addresses[0])
    await trio.sleep(5)
    assert len(victim.peers()) == INBOUND_MAX
    assert not any(info.outbound for info in victim.peers())
    for number in range(OUTBOUND_KEPT):
        own = await start(1000 + number)
        await victim.connect(own.addresses[0])
    assert sum(info.outbound for info in victim.peers()) == OUTBOUND_KEPT
    assert len(victim.peers()) == INBOUND_MAX + OUTBOUND_KEPT
    nursery.cancel_scope.cancel()


async def dial(network: PeerNetwork, address: str) -> None:
    """Connect; a refusal shows at the other end."""
    try:
        await network.connect(address)
    except Exception:  # noqa: BLE001 - turned away
        return


async def test_nothing_is_kept_of_peers_that_were_dialled_in_vain(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    """Strangers name any number of them; while a dial lasts a second one waits for it."""
    assert autojump_clock.rate == 0
    network = MemoryHub().network(b"1" * 32, CHAIN)
    await nursery.start(network.run)
    for number in range(2, 12):
        address = f"/ip4/8.8.8.8/tcp/1/p2p/{peer_id_of(bytes([number]) * 32)}"
        async with trio.open_nursery() as dials:
            for _ in range(2):
                dials.start_soon(hint, network, address)
            await trio.testing.wait_all_tasks_blocked()
    gc.collect()
    assert len(network._peers._dialling) == 0
    nursery.cancel_scope.cancel()


async def hint(network: PeerNetwork, address: str) -> None:
    """Follow a hint that leads nowhere."""
    with pytest.raises(PeerUnreachable):
        await network.connect(address, hint="test")


async def test_link_that_was_given_up_during_a_vain_dial_is_closed(nursery: trio.Nursery) -> None:
    """The one who gave it up leaves it to the other, who dials the peer, too, and is cancelled."""
    hub = MemoryHub()
    one, two = (hub.network(bytes([number]) * 32, CHAIN) for number in (1, 2))
    await nursery.start(one.run)
    await nursery.start(two.run)
    await one.connect(two.addresses[0], hint="first")
    lock = one._peers._dialling.setdefault(two.peer_id, trio.Lock())
    async with trio.open_nursery() as dials, lock:
        dials.start_soon(partial(one.connect, two.addresses[0], hint="second"))
        await trio.testing.wait_all_tasks_blocked()
        await one.disconnect(two.peer_id, hint="first")
        assert one.peers(), "the other may want it in a moment"
        dials.cancel_scope.cancel()
    await trio.testing.wait_all_tasks_blocked()
    assert not one.peers()
    nursery.cancel_scope.cancel()


async def test_dial_that_outlives_the_network_is_closed_and_named(
    nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another room may be dialling when the network's run ends, or is built anew."""
    hub = MemoryHub()
    one, two = (hub.network(number.to_bytes(32, "big"), CHAIN) for number in (1, 2))
    await nursery.start(two.run)
    run = trio.CancelScope()
    ended, dialled, released = trio.Event(), trio.Event(), trio.Event()
    made: list[Connection] = []

    async def runs(task_status: trio.TaskStatus[None]) -> None:
        with run:
            await one.run(task_status=task_status)
        ended.set()

    await nursery.start(runs)
    dial = one._transport.dial

    async def slowly(peer: str, address: str) -> Connection:
        made.append(await dial(PeerId(peer), address))
        dialled.set()
        await released.wait()
        return made[0]

    monkeypatch.setattr(one._transport, "dial", slowly)

    async def connects() -> None:
        with pytest.raises(PeerUnreachable, match="not running"):
            await one.connect(two.addresses[0])
        nursery.cancel_scope.cancel()

    nursery.start_soon(connects)
    await dialled.wait()
    run.cancel()
    await ended.wait()
    released.set()
