"""The driver's turns, one by one by a clock in hand: what the replica is told, and when."""

from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import msgspec
import pytest
import trio

from prsm.consensus.ledger.errors import Expired, InsufficientFunds
from prsm.consensus.pbft import replica
from prsm.consensus.pbft.effects import Effect
from prsm.consensus.pbft.events import Event, Heard, Received, Tick, Waiting
from prsm.consensus.pbft.opened import open_message
from prsm.consensus.pbft.state import State
from prsm.node.chain import signlog
from prsm.node.chain.chain import ChainConfig, open_chain
from prsm.node.chain.driver import TICK_MS_MAX, Driver, Head
from prsm.protocol.codec import encode
from prsm.protocol.ed25519 import Ed25519Signer
from prsm.protocol.ids import Millis, PeerId
from prsm.protocol.messages.consensus import SignedMessage, Status, ViewChange, sign_message
from prsm.protocol.signing import Kind
from prsm.protocol.transactions.envelope import decode_transaction
from tests.tools.labs import Cluster, Lab, make_cluster, transfer

START_MS = 1_000_000
WALL_MS = 1_800_000_000_000


class HandClock:
    """A clock that stands until a test moves it."""

    def __init__(self) -> None:
        self.now_ms = START_MS

    def monotonic_ms(self) -> Millis:
        return Millis(self.now_ms)

    def wall_ms(self) -> Millis:
        return Millis(WALL_MS + self.now_ms)


class Stage:
    """A validator of four that does not run by itself, and what its replica was told."""

    def __init__(self, cluster: Cluster, driver: Driver, clock: HandClock) -> None:
        self.cluster = cluster
        self.driver = driver
        self.clock = clock
        self.told: list[tuple[int, Event]] = []

    def step(self, state: State, event: Event, now_ms: int) -> list[Effect]:
        self.told.append((now_ms, event))
        return STOCK_STEP(state, event, now_ms)

    async def turn(self, *events: Event) -> None:
        await self.driver._turn(list(events))

    def ticks(self) -> list[int]:
        return [at for at, event in self.told if isinstance(event, Tick)]


STOCK_STEP = replica.step


@pytest.fixture
async def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Stage]:
    cluster, clock = make_cluster(tmp_path), HandClock()
    lab = cluster.labs[1]  # not the first proposer
    config = ChainConfig(
        cluster.genesis, lab.folder, lab.folder / "wallet.key", (lab.consensus_seed,)
    )
    async with open_chain(config, cluster.network(1), clock) as parts:
        made = Stage(cluster, parts.driver, clock)
        parts.driver.state.is_ready = True  # or it asks others first what it signed
        monkeypatch.setattr(replica, "step", made.step)
        yield made


@pytest.fixture
async def alone(tmp_path: Path) -> AsyncIterator[Stage]:
    """A validator that is the whole network: what it proposes, it decides."""
    cluster, clock = make_cluster(tmp_path, validators=1, others=1), HandClock()
    async with open_chain(cluster.config(0), cluster.network(0), clock) as parts:
        yield Stage(cluster, parts.driver, clock)


async def pass_time(stage: Stage, ms: int) -> int:
    """Turns every 50 ms; returns how many blocks came of them."""
    before = stage.driver.ledger.height
    for _ in range(0, ms, 50):
        stage.clock.now_ms += 50
        while True:
            events = list(stage.driver._own)
            stage.driver._own.clear()
            stage.driver._take_waiting(events)
            await stage.driver._turn(events)
            if not stage.driver._own:
                break
    return stage.driver.ledger.height - before


def chatter() -> Heard:
    """What any peer may send as often as it likes: unsigned, and of no use."""
    return Heard("stranger", Status(0, 0, bytes(32), 0, 0, 1, None))


async def test_replica_hears_the_time_however_much_else_it_hears(stage: Stage) -> None:
    """A status every 10 ms for two seconds: resends and view changes still get their ticks."""
    for _ in range(200):
        stage.clock.now_ms += 10
        await stage.turn(chatter())
    ticks = stage.ticks()
    gaps = [later - earlier for earlier, later in pairwise(ticks)]
    assert set(gaps) == {TICK_MS_MAX}
    assert len(ticks) == 8


async def test_timer_of_the_replica_outlives_a_tick_before_it(stage: Stage) -> None:
    """The replica orders each time once: a driver that forgot it would be late."""
    await stage.turn()
    stage.driver._timer_ms = START_MS + 260
    stage.clock.now_ms = START_MS + 250
    await stage.turn()
    stage.clock.now_ms = START_MS + 259
    await stage.turn(chatter())
    assert stage.ticks() == [START_MS, START_MS + 250]
    stage.clock.now_ms = START_MS + 260
    await stage.turn(chatter())
    assert stage.ticks()[-1] == START_MS + 260
    assert stage.driver._timer_ms == 0
    with trio.fail_after(5):  # and the next tick is waited for, not the past
        stage.driver.herald._tidings._due_ms = stage.clock.now_ms + 1
        assert await stage.driver._next_events() == []


async def test_log_of_a_height_that_does_not_end_stays_short(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two hundred views without a block, then a restart: a short log, and it may sign."""
    monkeypatch.setattr(signlog, "SEGMENT_BYTES", 2_000)
    cluster, clock = make_cluster(tmp_path), HandClock()
    lab, peers = cluster.labs[0], cluster.labs[1:3]
    config = ChainConfig(
        cluster.genesis, lab.folder, lab.folder / "wallet.key", (lab.consensus_seed,)
    )
    async with open_chain(config, cluster.network(0), clock) as parts:
        driver = parts.driver
        driver.state.is_ready = True
        members = driver.state.validators
        body = encode(ViewChange(None, None))
        for view in range(1, 201):
            for signer in [Ed25519Signer(peer.consensus_seed) for peer in peers]:
                index = members.index_of(signer.public_key)
                assert index is not None
                said = SignedMessage(Kind.VIEW_CHANGE, 0, 1, view, body, index, b"")
                message = sign_message(said, signer, cluster.genesis.chain_id)
                await driver._turn([Received(open_message(message))])
        assert driver.state.instance.view == 200
        assert driver._signlog is not None
        # What it proposed and prepared in each view of its own binds on: 50 views, 100 records.
        assert driver._signlog._files._wal.size < 8_000
    async with open_chain(config, cluster.network(0), clock) as parts:
        assert parts.driver.state.observer is None
        assert parts.driver.state.instance.view == 200


async def test_news_of_work_that_is_done_starts_no_timer(stage: Stage) -> None:
    """A transaction is in a block before its news is read: nothing waits, no view runs out."""
    driver, cluster = stage.driver, stage.cluster
    await stage.turn()
    raw = cluster.signed(
        cluster.labs[1],
        transfer(cluster.labs[2], 1),
        nonce=0,
        valid_until_ms=stage.clock.wall_ms() + 1000,
    )
    driver.hear_transaction(raw, decode_transaction(raw))
    news = await driver._next_events()
    assert news == [Waiting(transactions=True)]
    for identity in list(driver.mempool._by_id):
        driver.mempool.drop(identity)
    await stage.turn(*news)
    assert not driver.state.waiting
    assert driver.state.instance.deadline_ms is None


async def test_work_is_told_once_and_its_end_too(stage: Stage) -> None:
    driver, cluster = stage.driver, stage.cluster
    raw = cluster.signed(
        cluster.labs[1],
        transfer(cluster.labs[2], 1),
        nonce=0,
        valid_until_ms=stage.clock.wall_ms() + 1000,
    )
    driver.hear_transaction(raw, decode_transaction(raw))
    for _ in range(3):
        await stage.turn(*await driver._next_events())
    assert driver.state.waiting
    assert driver.state.instance.deadline_ms is not None
    for identity in list(driver.mempool._by_id):
        driver.mempool.drop(identity)
    await stage.turn()
    await stage.turn()
    assert [event for _, event in stage.told if isinstance(event, Waiting)] == [
        Waiting(transactions=True),
        Waiting(transactions=False),
    ]


async def test_what_no_block_can_hold_makes_no_block(alone: Stage) -> None:
    """Behind a gap, not payable, out of time, valid for too long: an idle network stays idle."""
    driver, cluster, clock = alone.driver, alone.cluster, alone.clock
    rich, poor = cluster.labs[0], Lab(9, cluster.labs[0].folder)

    def hear(lab: Lab, nonce: int, *, lives_ms: int = 60_000) -> None:
        raw = cluster.signed(
            lab, transfer(rich, 1), nonce=nonce, valid_until_ms=clock.wall_ms() + lives_ms
        )
        driver.hear_transaction(raw, decode_transaction(raw))

    hear(rich, 0)
    assert await pass_time(alone, 1_000) == 2  # it, and one that carries its state root
    hear(rich, 2)
    with pytest.raises(InsufficientFunds):
        hear(poor, 0)
    with pytest.raises(Expired, match="ahead"):
        hear(rich, 1, lives_ms=10**12)
    assert await pass_time(alone, 3_000) == 0
    assert len(driver.mempool) == 1
    hear(rich, 1)
    assert await pass_time(alone, 1_000) == 2
    assert driver.ledger.view.nonce(rich.wallet.public_key) == 3
    hear(rich, 3, lives_ms=10)
    assert await pass_time(alone, 1_000) == 0
    assert len(driver.mempool) == 0


async def test_what_the_ledger_refuses_leaves_the_pool(alone: Stage) -> None:
    """The pool takes what no block may hold, by a rule it does not know: one empty block."""
    driver, cluster, clock = alone.driver, alone.cluster, alone.clock
    raw = cluster.signed(cluster.labs[0], transfer(cluster.labs[0], 1), nonce=0, valid_until_ms=1)
    lying = msgspec.structs.replace(decode_transaction(raw), valid_until_ms=clock.wall_ms() + 9999)
    driver.mempool.add(raw, lying, clock.wall_ms())
    assert await pass_time(alone, 3_000) == 1
    assert len(driver.mempool) == 0


async def test_proposer_of_a_small_block_votes_in_the_same_breath(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PROPOSE and PREPARE wait for one append, which is durable before either leaves."""
    cluster, clock = make_cluster(tmp_path), HandClock()
    course: list[str] = []
    async with open_chain(cluster.config(0), cluster.network(0), clock) as parts:
        driver = parts.driver
        driver.state.is_ready = True
        assert driver.state.instance.own == driver.state.instance.schedule.at(0)
        signlog = driver._signlog
        assert signlog is not None
        append = signlog.append

        async def noted(records: tuple[bytes, ...]) -> None:
            await append(records)
            course.append(f"{len(records)} records")

        def send(_peer: PeerId, message: SignedMessage) -> None:
            course.append(message.kind.name)

        monkeypatch.setattr(signlog, "append", noted)
        monkeypatch.setattr(driver, "_send", send)
        raw = cluster.signed(
            *(cluster.labs[0], transfer(cluster.labs[2], 1)),
            nonce=0,
            valid_until_ms=clock.wall_ms() + 1000,
        )
        driver.hear_transaction(raw, decode_transaction(raw))
        await driver._turn([])
        assert not driver._own
        members = len(driver.validators)
        assert course == ["3 records", *["PROPOSE"] * members, *["PREPARE"] * members]


async def test_clients_hear_of_a_block_before_its_tree_is_computed(
    alone: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The block is durable and the state is moved; the tree is work that no answer waits for."""
    driver, cluster, clock = alone.driver, alone.cluster, alone.clock
    course: list[str] = []
    tree = driver.ledger._tree
    settling = tree.settling

    def settle() -> Iterator[int]:
        for part in settling():
            course.append("tree")
            yield part

    async def hear(head: Head) -> None:
        stored = await driver.store.tip()
        assert stored is not None
        assert stored[0] == head.block.header.height == driver.ledger.height
        course.append("durable")

    heads: list[Head] = []
    monkeypatch.setattr(tree, "settling", settle)
    driver.on_answer += [heads.append, lambda _head: course.append("answer")]
    driver.on_head.append(lambda _head: course.append("head"))
    raw = cluster.signed(
        *(cluster.labs[0], transfer(cluster.labs[0], 1)),
        nonce=0,
        valid_until_ms=clock.wall_ms() + 1000,
    )
    driver.hear_transaction(raw, decode_transaction(raw))
    clock.now_ms += 50
    while not heads:
        events = list(driver._own)
        driver._own.clear()
        await driver._turn(events)
    assert course[0] == "answer"
    assert "tree" in course
    assert course[-1] == "head"
    await hear(heads[0])


async def test_door_and_ledger_know_the_same_signatures(stage: Stage, tmp_path: Path) -> None:
    """A vote that the door checked costs nothing in the next block's certificate."""
    folder = tmp_path / "another"
    folder.mkdir()
    config = replace(stage.cluster.config(2), data=folder)
    async with open_chain(config, stage.cluster.network(2), stage.clock) as parts:
        assert parts.driver.ledger._verifier is parts.admission.known.verifier
        assert parts.driver.state.config.verifier is parts.admission.known.verifier
