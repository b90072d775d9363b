"""What the rooms of a node do becomes rows of topics."""

import functools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import pytest
import trio

from prsm.node.api import feed as feeds
from prsm.node.chain.chain import ChainParts
from prsm.node.config.load import load
from prsm.node.home import Home
from prsm.node.inference.generate.generation import GenerateRequest, Generation
from prsm.node.inference.job import JobRequest
from prsm.node.keys import make_keys
from prsm.node.models import Task
from prsm.node.net.host import Libp2pTransport
from prsm.node.net.network import PeerNetwork
from prsm.node.net.reach import open_reach
from prsm.node.rpc.methods import subscriptions as api
from prsm.node.rpc.methods.tasks import TaskInfo
from prsm.node.rpc.methods.work import Job
from prsm.node.telemetry.events import Event
from prsm.node.work.workshop import Opened, Start, Workshop, make_workshop
from prsm.protocol.transactions.envelope import decode_transaction
from prsm.storage.diskguard import DiskGuard
from prsm.storage.store.model_store import ModelStore
from tests.tools.labs import Cluster, make_cluster, transfer
from tests.tools.sockets import until

SECONDS = 20


@dataclass
class World:
    """Two validators; rows of the first one by topic."""

    cluster: Cluster
    parts: ChainParts
    work: Workshop
    rows: dict[str, list[msgspec.Struct]] = field(default_factory=dict)

    def listen(self) -> None:
        for topic in api.TOPICS:
            self.rows[topic] = []
            self.work.feed.events.listen(topic, functools.partial(self._take, topic))

    def _take(self, topic: str, event: Event) -> None:
        assert event.row is not None
        self.rows[topic].append(event.row)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with _open(tmp_path) as world:
        yield world


@asynccontextmanager
async def _open(folder: Path) -> AsyncIterator[World]:
    cluster = make_cluster(folder, validators=2)
    home = Home(folder / "home")
    home.create()
    make_keys(home, password="a password", development=True)
    config = load(None, flags={"executor.enabled": "false"}).config
    store = await ModelStore.open(home.blocks, quota=2**20)
    made: list[World] = []

    def prepare(parts: ChainParts) -> None:
        network = parts.driver.network
        assert isinstance(network, PeerNetwork)
        start = Start(home, config, None)
        transport = Libp2pTransport(bytes(32), listen=["/ip4/127.0.0.1/tcp/0"])  # never runs
        reach = open_reach(network, transport, config.net, start.clock)
        guard = DiskGuard(home.data, reserve_bytes=0)
        opened = Opened(start, cluster.genesis, network, reach, parts, store, guard)
        made.append(World(cluster, parts, make_workshop(opened)))
        made[0].listen()

    try:
        with trio.fail_after(SECONDS):
            async with cluster.node(0, prepare=prepare), cluster.node(1), trio.open_nursery() as n:
                for run in (made[0].work.models.run, made[0].work.jobs.run, made[0].work.feed.run):
                    await n.start(run)
                yield made[0]
                n.cancel_scope.cancel()
    finally:
        with trio.CancelScope(shield=True):
            await store.close()


@pytest.mark.slow
async def test_a_block_is_told_with_its_steps_and_votes(world: World) -> None:
    raw = world.cluster.signed(world.cluster.labs[1], transfer(world.cluster.labs[0], 5), nonce=0)
    world.parts.driver.hear_transaction(raw, decode_transaction(raw))
    await world.parts.driver.wait_height(1)
    first = world.rows["heads"][0]
    assert isinstance(first, api.HeadRow)
    assert (first.height, first.transactions) == (1, 1)
    phases = [
        row.phase
        for row in world.rows["rounds"]
        if isinstance(row, api.RoundRow) and row.height == 1
    ]
    assert phases[-1] == "committed"
    assert set(phases) <= {"proposal", "prepared", "committed", "view_change"}
    votes = {
        (row.kind, row.validator)
        for row in world.rows["votes"]
        if isinstance(row, api.VoteRow) and row.height == 1
    }
    assert {("commit", 0), ("commit", 1)} <= votes
    linked = world.rows["peers"][0]
    assert isinstance(linked, api.PeerRow)
    assert (linked.event, linked.peer) == ("linked", world.cluster.labs[1].peer)


@pytest.mark.slow
async def test_work_and_what_moves_by_itself_is_told(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feeds, "LOOK_S", 0.001)
    release = trio.Event()

    async def work(task: Task) -> str:
        task.report(1, 2)
        await release.wait()
        return "done"

    task = world.work.models.tasks.start("pull", "a model", work)
    progress = world.rows["transfers"]
    await until(lambda: any(isinstance(row, TaskInfo) and row.done_bytes for row in progress))
    release.set()
    await task.over.wait()
    states = [row.state for row in progress if isinstance(row, TaskInfo)]
    assert (states[0], states[-1]) == ("running", "done")

    world.work.jobs.submit(JobRequest(model=b"\x01\x55\x12\x20" + bytes(32)))
    jobs = world.rows["jobs"]
    await until(lambda: any(isinstance(row, Job) and row.is_over for row in jobs))
    assert next(row.state for row in jobs if isinstance(row, Job)) == "planned"

    generations = world.work.generating.generations
    one = Generation(bytes(32), GenerateRequest(b"m", "Once"), made_ms=0)
    one.tell = lambda text: generations._tell(one, text)
    await one.put("upon", 1)
    one.end("stop")
    told = [row for row in world.rows["tokens"] if isinstance(row, api.TokenRow)]
    assert [(row.text, row.is_over, row.finish) for row in told] == [
        ("upon", False, None),
        ("", True, "stop"),
    ]
