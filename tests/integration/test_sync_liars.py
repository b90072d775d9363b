"""A newcomer among liars that follow a script: it has the honest chain, and names who lied."""

from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import trio

from prsm.node.chain.chain import ChainParts
from prsm.node.net.interface import Answer, Channel, Incoming
from prsm.node.net.network import PeerNetwork
from prsm.protocol.certificates import Certificate
from prsm.protocol.codec import decode, encode
from prsm.protocol.headers import Block
from prsm.protocol.limits import BULK_FRAME_BYTES_MAX
from prsm.protocol.messages.consensus import Status
from prsm.protocol.messages.sync import Certified, GetBlocks, GotBlocks
from prsm.protocol.transactions.payloads import TRANSFER
from tests.tools.labs import MICRO, Cluster, make_cluster, transfer

pytestmark = pytest.mark.slow
FAR = 1_000_000
Script = Callable[[GetBlocks], Awaitable[GotBlocks]]


def standing(height: int, *, tip: bytes = bytes(32)) -> Status:
    return Status(
        height=height,
        view=0,
        tip_hash=tip,
        low_mark=0,
        snapshot_height=0,
        first_height=1,
        your_highest=None,
    )


class ScriptedLiar:
    """A peer that claims what a test says, every 50 ms, and answers ranges by a script."""

    def __init__(self, network: PeerNetwork, claims: list[Status], script: Script) -> None:
        self.network = network
        self.asked = 0
        self._claims = claims
        self._script = script
        network.on_call(GetBlocks, self._answer)
        network.on_message(Status, lambda _incoming: None)

    async def run(self, cluster: Cluster, newcomer: int) -> None:
        lab = cluster.labs[newcomer]
        async with trio.open_nursery() as nursery:
            await nursery.start(self.network.run)
            await self.network.connect(cluster.hub.address(lab.peer))
            turn = 0
            while True:
                claim = self._claims[turn % len(self._claims)]
                self.network.send_nowait(lab.peer, claim, channel=Channel.CTL)
                turn += 1
                await trio.sleep(0.05)

    async def _answer(self, incoming: Incoming) -> Answer:
        assert isinstance(incoming.message, GetBlocks)
        self.asked += 1
        return await self._script(incoming.message), b""


async def certified(node: ChainParts, ask: GetBlocks) -> list[Certified]:
    """What an honest node would answer."""
    found = await node.driver.store.blocks(ask.first, ask.first + ask.count - 1, bytes_max=2**20)
    return [
        Certified(
            decode(item.block, Block, size_max=BULK_FRAME_BYTES_MAX),
            decode(item.certificate, Certificate, size_max=BULK_FRAME_BYTES_MAX),
        )
        for item in found
    ]


def scripts(honest: ChainParts) -> dict[str, tuple[list[Status], Script]]:
    async def forge(ask: GetBlocks) -> GotBlocks:
        """The right blocks, under certificates whose last signature is another's."""
        found = await certified(honest, ask)
        return GotBlocks(blocks=tuple(encode(item)[:-8] + bytes(8) for item in found))

    async def vanish(_ask: GetBlocks) -> GotBlocks:
        await trio.sleep_forever()
        raise AssertionError

    async def nothing(_ask: GetBlocks) -> GotBlocks:
        await trio.lowlevel.checkpoint()
        return GotBlocks(blocks=())

    async def drip(ask: GetBlocks) -> GotBlocks:
        await trio.sleep(2.7)  # more than half of the time it has
        found = await certified(honest, ask)
        return GotBlocks(blocks=tuple(encode(item) for item in found[:1]))

    two = [standing(FAR, tip=b"a" * 32), standing(FAR, tip=b"b" * 32)]
    return {
        "forger": ([standing(FAR)], forge),
        "silent": ([standing(FAR)], vanish),
        "empty": ([standing(FAR)], nothing),
        "dripping": ([standing(FAR)], drip),
        "contradicting": (two, drip),
    }


async def until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110 - states of rooms, which have no event for tests
        await trio.sleep(0.02)


@pytest.mark.parametrize(
    ("kind", "why"),
    [
        ("forger", "signature of validator"),
        ("silent", ""),
        ("empty", ""),
        ("dripping", ""),
        ("contradicting", "two blocks of height"),
    ],
)
async def test_newcomer_follows_the_honest_chain_among_liars(
    tmp_path: Path, kind: str, why: str
) -> None:
    """The liar is met first and claims a million; the honest validator comes after it."""
    cluster = make_cluster(tmp_path, validators=1, others=2)
    with trio.fail_after(30):
        async with AsyncExitStack() as stack:
            honest = await stack.enter_async_context(cluster.node(0))
            for _ in range(3):
                tx = await honest.wallet.submit(TRANSFER, transfer(cluster.labs[1], MICRO))
                await honest.wallet.wait_committed(tx)
            height = honest.driver.ledger.height
            claims, script = scripts(honest)[kind]
            liar = ScriptedLiar(cluster.network(1), claims, script)
            cluster.hub.cut(cluster.labs[0].peer, cluster.labs[2].peer)
            light = await stack.enter_async_context(cluster.node(2, votes=False))
            nursery = await stack.enter_async_context(trio.open_nursery())
            nursery.start_soon(liar.run, cluster, 2)
            network = light.driver.network
            assert isinstance(network, PeerNetwork)
            await until(lambda: liar.asked > 0 or bool(network.bans()))
            cluster.hub.heal(cluster.labs[0].peer, cluster.labs[2].peer)
            await light.driver.wait_height(height)
            assert light.driver.ledger.state_root == honest.driver.ledger.state_root
            bans = [(ban.peer, why in ban.why) for ban in network.bans()]
            assert bans == ([(liar.network.peer_id, True)] if why else [])
            assert liar.asked <= 2
            nursery.cancel_scope.cancel()
