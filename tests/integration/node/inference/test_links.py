"""What a requester does with workers that answer wrongly: each ends as a lost worker."""
# ruff: noqa: ARG001 - autojump_clock is asked for by name, nothing reads it

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import msgspec
import pytest
import trio
from trio.testing import MockClock

from prsm.node.inference.capacity import ask_all
from prsm.node.inference.claims import Claim
from prsm.node.inference.interface import JobClosed, TransactionFailed
from prsm.node.inference.job import JobRequest, JobState
from prsm.node.inference.links import InputRefused, Link, Links, WorkerLost
from prsm.node.inference.verify import batch_root, input_root
from prsm.node.net.handshake import ChainIdentity
from prsm.node.net.interface import Answer, Busy, Channel, Incoming
from prsm.node.net.memory import MemoryHub
from prsm.node.net.network import PeerNetwork
from prsm.protocol import merkle
from prsm.protocol.codec import Record, encode
from prsm.protocol.ed25519 import Ed25519Signer
from prsm.protocol.ids import PeerId
from prsm.protocol.messages.work import (
    Accepted,
    AskCapacity,
    Capacity,
    Finish,
    Open,
    Push,
    Result,
    ShownReceipt,
    WorkFailed,
    capacity_statement,
)
from prsm.protocol.receipts import (
    RECEIPT_VERSION,
    BatchResult,
    Feed,
    Measured,
    WorkKind,
    WorkReceipt,
    receipt_hash,
    sign_receipt,
)
from prsm.protocol.tensors import Dtype, Tensor, TensorHead
from prsm.protocol.transactions.payloads import COMMIT, Commit, CommitRow, Unit
from tests.tools.work import (
    MODEL,
    WIDTH,
    Cluster,
    given_rows,
    make_cluster,
    make_manifest,
    tensor,
    whole_run,
)
from tests.tools.work_chain import VERIFIER, MemoryChain, World, seed

JOB = b"j" * 32
ROWS = 4
SHARD = make_manifest().shards[0]  # the whole: x, mask -> y
OUTPUT = tensor("y", [bytes(WIDTH)] * ROWS)
SIGNER = Ed25519Signer(seed(1))
Reply = tuple[Record, bytes]


@dataclass
class Crook:
    """A worker that answers a push with what the test says."""

    network: PeerNetwork
    replies: list[Reply] = field(default_factory=list)
    shown: Record = field(default_factory=lambda: ShownReceipt(b""))
    accepted: Record = field(default_factory=lambda: Accepted(JOB, 0, 4, bytes(32), 0))

    def attach(self, nursery: trio.Nursery) -> None:
        def take(incoming: Incoming) -> None:
            nursery.start_soon(self._reply, incoming.peer)

        async def finish(_incoming: Incoming) -> Answer:
            await trio.lowlevel.checkpoint()
            return self.shown, b""

        async def opened(_incoming: Incoming) -> Answer:
            await trio.lowlevel.checkpoint()
            return self.accepted, b""

        self.network.on_message(Push, take)
        self.network.on_call(Finish, finish)
        self.network.on_call(Open, opened)

    async def _reply(self, peer: PeerId) -> None:
        for message, data in self.replies:
            await self.network.send(peer, message, channel=Channel.BULK, tail=data)


@dataclass
class Pair:
    link: Link
    crook: Crook
    links: Links


def result(
    *,
    heads: tuple[TensorHead, ...] = (OUTPUT.head,),
    output_root: bytes = batch_root((OUTPUT,)),
    before: bytes = input_root(given_rows(ROWS), stage=0),
    chunk: int = 0,
    chunks: int = 1,
) -> Result:
    return Result(JOB, 0, 0, chunk, chunks, heads, before, merkle.EMPTY_ROOT, output_root, 1)


@pytest.fixture
async def pair(nursery: trio.Nursery) -> Pair:
    world, hub = World(2), MemoryHub()
    identity = ChainIdentity(chain=world.genesis.chain_id, genesis=world.genesis.digest)
    ours, theirs = hub.network(b"1" * 32, identity), hub.network(b"2" * 32, identity)
    links = Links(ours, MemoryChain(world, 0), VERIFIER)
    crook = Crook(theirs)
    crook.attach(nursery)
    await nursery.start(ours.run)
    await nursery.start(theirs.run)
    await ours.connect(hub.address(theirs.peer_id))
    workers = (bytes(SIGNER.public_key), b"o" * 32)
    spec = Unit(WorkKind.INFER, MODEL, 1, 0, 0, 1, 2, 10, None, workers)
    link = Link(links, theirs.peer_id, JOB, 0, bytes(SIGNER.public_key), spec, SHARD)
    return Pair(link, crook, links)


async def ask(pair: Pair) -> tuple[Tensor, ...]:
    with trio.fail_after(30):
        opinion = await pair.link.ask(0, ROWS, given_rows(ROWS))
    return opinion.tensors


async def test_right_answer_is_taken(pair: Pair, autojump_clock: MockClock) -> None:
    pair.crook.replies = [(result(), OUTPUT.data)]
    assert await ask(pair) == (OUTPUT,)


@pytest.mark.parametrize(
    ("replies", "words"),
    [
        ([(result(output_root=b"r" * 32), OUTPUT.data)], "its roots are not those of its bytes"),
        ([(result(before=b"r" * 32), OUTPUT.data)], "its roots are not those of its bytes"),
        ([(result(), bytes([1]) + OUTPUT.data[1:])], "its roots are not those of its bytes"),
        ([(result(heads=()), b"")], "io table"),
        ([(result(heads=(TensorHead("y", Dtype.U8, (5, WIDTH)),)), b"")], "batch is 4"),
        ([(result(heads=(TensorHead("y", Dtype.U8, (4, 6)),)), b"")], "width is 5"),
        ([(result(chunks=2), OUTPUT.data)], "2 chunks"),
        ([(result(chunk=1), OUTPUT.data)], "before chunk 0"),
        ([(result(), OUTPUT.data[1:])], "are due"),
        ([(WorkFailed(JOB, 0, 0, "out_of_memory", "no room"), b"")], "out_of_memory: no room"),
    ],
)
async def test_wrong_answer_loses_the_worker(
    replies: list[Reply], words: str, pair: Pair, autojump_clock: MockClock
) -> None:
    pair.crook.replies = replies
    with pytest.raises(WorkerLost, match=words):
        await ask(pair)


@pytest.mark.parametrize(("reason", "error"), [("busy", Busy), ("input_mismatch", InputRefused)])
async def test_refusal_of_one_request_is_not_a_lost_worker(
    pair: Pair, autojump_clock: MockClock, reason: str, error: type[Exception]
) -> None:
    """No room now, or values the model does not take: the worker itself goes on."""
    pair.crook.replies = [(WorkFailed(JOB, 0, 0, reason, "because"), b"")]
    with pytest.raises(error, match="because"):
        await ask(pair)


async def test_answers_nobody_waits_for_are_dropped(pair: Pair, autojump_clock: MockClock) -> None:
    other = msgspec.structs.replace(result(), batch=7)
    failed = WorkFailed(b"x" * 32, 0, 0, "busy", "")
    pair.crook.replies = [(other, OUTPUT.data), (failed, b""), (result(), OUTPUT.data)] * 2
    assert await ask(pair) == (OUTPUT,)
    await trio.sleep(1)
    assert pair.links.dropped == {"result": 3, "failure": 2}


async def test_worker_that_goes_away_is_lost_at_once(
    pair: Pair, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    async def leave() -> None:
        await trio.sleep(1)
        await pair.crook.network.disconnect(pair.links.network.peer_id)

    nursery.start_soon(leave)
    with pytest.raises(WorkerLost, match="was lost"):
        await ask(pair)


def receipt(**changes: object) -> WorkReceipt:
    made = WorkReceipt(
        version=RECEIPT_VERSION,
        chain_id=World(2).genesis.chain_id,
        job=JOB,
        unit=0,
        kind=WorkKind.INFER,
        worker=bytes(SIGNER.public_key),
        model=MODEL,
        stages=1,
        stage=0,
        class_id=bytes(32),
        batches=(BatchResult(0, ROWS, bytes(32), bytes(32), bytes(32)),),
        measured=Measured(0, ROWS, 0, 0),
        price_per_row=10,
        started_height=1,
        ended_height=1,
        signature=bytes(64),
    )
    return sign_receipt(msgspec.structs.replace(made, **changes), SIGNER)


@pytest.mark.parametrize(
    ("shown", "words"),
    [
        (ShownReceipt(b"junk"), "bad_encoding"),
        (result(), "is no receipt"),
        (ShownReceipt(encode(receipt(job=b"x" * 32))), "something else"),
        (ShownReceipt(encode(receipt(chain_id=b"otherone"))), "something else"),
        (
            ShownReceipt(encode(msgspec.structs.replace(receipt(), signature=b"s" * 64))),
            "did not sign",
        ),
    ],
)
async def test_wrong_receipt_loses_the_worker(
    shown: Record, words: str, pair: Pair, autojump_clock: MockClock
) -> None:
    pair.crook.shown = shown
    with pytest.raises(WorkerLost, match=words):
        await pair.link.finish()
    pair.crook.shown = ShownReceipt(encode(receipt()))
    assert await pair.link.finish() == receipt()


async def test_acceptance_of_something_else_loses_the_worker(
    pair: Pair, autojump_clock: MockClock
) -> None:
    assert (await pair.link.open()).credit == 4
    pair.crook.accepted = Accepted(JOB, 1, 4, bytes(32), 0)
    with pytest.raises(WorkerLost, match="does not accept the unit"):
        await pair.link.open()


# -- among honest ones


async def started(nursery: trio.Nursery) -> Cluster:
    cluster = make_cluster()
    await cluster.start(nursery)
    return cluster


def claim_of(worker: bytes) -> Callable[[AskCapacity], Capacity]:
    """An unsigned claim to be an account, cheaper than all others."""
    return lambda _ask: Capacity(worker, 0, 9, "adder 1", (MODEL,), (), 0, 0, (), bytes(64))


async def test_nobody_answers_for_another_account(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    """The impostor signs, but with its own key, or for another peer."""
    cluster = await started(nursery)
    identity = ChainIdentity(
        chain=cluster.world.genesis.chain_id, genesis=cluster.world.genesis.digest
    )
    impostor = cluster.hub.network(b"i" * 32, identity)
    victim = bytes(Ed25519Signer(seed(50)).public_key)  # who is not there to answer

    async def answer(incoming: Incoming) -> Answer:
        await trio.lowlevel.checkpoint()
        asked = incoming.message
        assert isinstance(asked, AskCapacity)
        made = claim_of(victim)(asked)
        statement = capacity_statement(
            made,
            chain_id=cluster.world.genesis.chain_id,
            peer=impostor.peer_id,
            nonce=asked.nonce,
        )
        signature = Ed25519Signer(seed(77)).sign(statement)
        return msgspec.structs.replace(made, signature=signature), b""

    impostor.on_call(AskCapacity, answer)
    await nursery.start(impostor.run)
    await impostor.connect(cluster.hub.address(cluster.requester.network.peer_id))
    requester = cluster.requester
    offers = await ask_all(requester.network, requester.chain, VERIFIER)
    assert [offer.worker for offer in offers] == [w.address for w in cluster.workers]
    assert impostor.peer_id not in {offer.peer for offer in offers}


async def test_receipt_of_other_roots_than_were_answered_replaces_the_worker(
    nursery: trio.Nursery, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It answers honestly and commits to something else, to harm the settlement."""
    cluster = make_cluster()
    crook = cluster.workers[0]
    honest_add = crook.claims.add

    async def add(made: WorkReceipt, feeds: Sequence[Feed]) -> Claim:
        first = msgspec.structs.replace(made.batches[0], output_root=b"x" * 32)
        forged = msgspec.structs.replace(made, batches=(first, *made.batches[1:]))
        return await honest_add(forged, feeds)

    monkeypatch.setattr(crook.claims, "add", add)
    await cluster.start(nursery)
    jobs = cluster.requester.jobs
    view = await jobs.wait(jobs.submit(JobRequest(MODEL, inputs=given_rows(30))))
    assert (view.state, view.unsettled) == (JobState.DONE, {})
    assert jobs.result(view.id)[0].data == whole_run(30)
    assert "its receipt is not of what it answered" in view.workers[0].lost
    assert [opinion.wrong for opinion in view.verdicts[0].opinions] == [0, 0]
    third = next(worker for worker in view.workers if worker.role == "third")
    assert third.rows == 30


async def test_commitment_that_is_refused_is_told(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    """The job of the receipt is not on the ledger: the claim is dropped, nothing hangs."""
    cluster = await started(nursery)
    node = cluster.nodes[1]
    made = receipt(worker=node.address)
    claim = await node.claims.add(made)
    with trio.fail_after(30), pytest.raises((TransactionFailed, JobClosed)):
        await node.claims.show(claim)
    refused = cluster.world.executed[-1]
    assert refused[0] == COMMIT
    assert refused[1] == Commit((CommitRow(JOB, 0, receipt_hash(claim.receipt), b""),))
