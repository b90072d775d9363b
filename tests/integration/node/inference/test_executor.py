"""What a worker does with openings and pushes no honest requester sends: typed answers, alive."""
# ruff: noqa: ARG001 - autojump_clock is asked for by name, nothing reads it

import msgspec
import pytest
import trio
from trio.testing import MockClock

from prsm.consensus.ledger.audit_records import Pledged, pledged_key
from prsm.node.inference.feeds import NO_FEED
from prsm.node.inference.terms import Terms
from prsm.node.inference.transfer import cut
from prsm.node.inference.verify import batch_root
from prsm.node.net.handshake import ChainIdentity
from prsm.node.net.interface import CallRefused, Channel
from prsm.protocol.codec import decode, encode
from prsm.protocol.ed25519 import Ed25519Signer
from prsm.protocol.limits import TENSOR_CHUNK_BYTES_MAX, TRANSACTION_BYTES_MAX
from prsm.protocol.messages.serving import CancelBatch
from prsm.protocol.messages.work import (
    AskReceipt,
    CloseWork,
    Finish,
    Open,
    Push,
    Result,
    ShownReceipt,
    WorkFailed,
    ask_receipt_statement,
)
from prsm.protocol.receipts import (
    RECEIPT_VERSION,
    BatchResult,
    Measured,
    WorkKind,
    WorkReceipt,
    is_signed,
    receipt_hash,
    sign_receipt,
)
from prsm.protocol.tensors import Dtype, Tensor, TensorHead
from prsm.protocol.transactions.payloads import HALT, LOCK, REFUND, Halt, Lock, Refund, Unit
from tests.tools.probe import JOB, PRICE, ROWS, Probe
from tests.tools.work import MODEL, NAN_BYTE, WIDTH, given_rows, make_cluster, tensor
from tests.tools.work_chain import VERIFIER, seed


@pytest.fixture
async def probe(nursery: trio.Nursery) -> Probe:
    cluster = make_cluster()
    identity = ChainIdentity(
        chain=cluster.world.genesis.chain_id, genesis=cluster.world.genesis.digest
    )
    network = cluster.hub.network(b"p" * 32, identity)
    made = Probe(cluster, network)
    network.on_message(Result, made.take_result)
    network.on_message(WorkFailed, made.take_failure)
    await cluster.start(nursery)
    await nursery.start(network.run)
    for node in cluster.nodes:
        await network.connect(cluster.hub.address(node.network.peer_id))
    return made


async def test_honest_batches_give_a_committed_receipt(
    probe: Probe, autojump_clock: MockClock
) -> None:
    await probe.lock()
    accepted = await probe.open()
    assert accepted.credit == 4
    batches = [given_rows(rows) for rows in ROWS]
    for batch, tensors in enumerate(batches):
        await probe.push(tensors, batch=batch)
        await probe.next_answer()
    shown = await probe.call(Finish(JOB, 0))
    assert isinstance(shown, ShownReceipt)
    receipt = decode(shown.receipt, WorkReceipt, size_max=TRANSACTION_BYTES_MAX)
    assert is_signed(receipt, VERIFIER)
    assert receipt.class_id == accepted.class_id
    assert [b.input_root for b in receipt.batches] == [batch_root(b) for b in batches]
    assert [b.output_root for b in receipt.batches] == [r.output_root for r in probe.results]
    assert (receipt.measured.rows, receipt.measured.cpu_ms) == (10, 6)
    chain = probe.worker.chain
    bound = chain.committed(JOB, 0, chain.address)
    assert bound is not None
    assert bound.receipt_hash == receipt_hash(receipt)
    again = await probe.call(Finish(JOB, 0))
    assert again == shown


@pytest.mark.parametrize(
    ("tensors", "word"),
    [
        (given_rows(3), "input_mismatch"),  # the lock says 4
        (given_rows(4)[:1], "input_mismatch"),
        (given_rows(4)[::-1], "input_mismatch"),
        ((given_rows(4)[0], tensor("mask", [b"abc"] * 4)), "input_mismatch"),
        (
            (
                Tensor(TensorHead("x", Dtype.F32, (4, WIDTH)), bytes(16 * WIDTH)),
                given_rows(4)[1],
            ),
            "input_mismatch",
        ),
        (
            (
                Tensor(TensorHead("x", Dtype.U8, (4, WIDTH, 1)), bytes(4 * WIDTH)),
                given_rows(4)[1],
            ),
            "input_mismatch",
        ),
        ((tensor("x", [bytes([NAN_BYTE] * WIDTH)] * 4), given_rows(4)[1]), "input_mismatch"),
    ],
    ids=["rows", "missing", "order", "axis", "dtype", "rank", "nan"],
)
async def test_tensors_that_are_not_of_the_io_table_are_refused(
    tensors: tuple[Tensor, ...], word: str, probe: Probe, autojump_clock: MockClock
) -> None:
    await probe.lock()
    await probe.open()
    await probe.push(tensors)
    await probe.next_answer()
    assert [(f.batch, f.reason) for f in probe.failures] == [(0, word)]
    await probe.assert_alive()


async def test_sizes_are_refused_before_memory_is_taken(
    probe: Probe, autojump_clock: MockClock
) -> None:
    """A head announces terabytes; only its hundred bytes ever travel."""
    await probe.lock()
    await probe.open()
    huge = tuple(TensorHead(name, Dtype.U8, (4, 2**31 - 1)) for name in ("x", "mask"))
    await probe.send(Push(JOB, 0, 0, 0, 1, huge, NO_FEED))
    await probe.next_answer()
    assert probe.failures[0].reason == "batch_too_large"
    await probe.assert_alive()


async def test_chunks_that_do_not_fit_together_are_refused(
    probe: Probe, autojump_clock: MockClock
) -> None:
    await probe.lock()
    await probe.open()
    heads = tuple(t.head for t in given_rows(4, width=TENSOR_CHUNK_BYTES_MAX // 4))
    for hostile, data in (
        (Push(JOB, 0, 0, 0, 3, heads, NO_FEED), b""),  # two are due
        (Push(JOB, 0, 0, 0, 2, heads, NO_FEED), b"short"),
        (Push(JOB, 0, 200, 0, 1, (), NO_FEED), b""),  # no such batch
    ):
        await probe.send(hostile, data)
        await probe.next_answer()
    assert {f.reason for f in probe.failures} == {"bad_encoding"}
    await probe.send(
        Push(JOB, 0, 0, 1, 2, (), NO_FEED), bytes(TENSOR_CHUNK_BYTES_MAX)
    )  # no chunk 0
    await probe.assert_alive()
    assert probe.worker.executor.dropped["not_awaited"] == 1


async def test_pushes_nobody_opened_are_dropped_and_counted(
    probe: Probe, autojump_clock: MockClock
) -> None:
    await probe.lock()
    await probe.push(given_rows(4))
    await probe.open()
    await probe.push(given_rows(4), job=b"x" * 32)
    other = probe.cluster.nodes[2].network
    stolen = Push(JOB, 0, 0, 0, 1, (), NO_FEED)
    await other.send(probe.worker.network.peer_id, stolen, channel=Channel.BULK)
    await probe.assert_alive()
    assert probe.worker.executor.dropped["unknown_job"] == 3


async def test_beyond_the_credit_is_refused(probe: Probe, autojump_clock: MockClock) -> None:
    """Two batches arrive half, so they stay open; the credit here is set to two."""
    await probe.lock()
    await probe.open()
    lease = probe.worker.executor._leases[JOB, 0]
    lease.credit = 2
    width = TENSOR_CHUNK_BYTES_MAX // 4
    for batch in (0, 1):
        first = next(cut(given_rows(4, width=width)))
        await probe.send(Push(JOB, 0, batch, 0, 2, first.heads, NO_FEED), first.data)
    await probe.push(given_rows(2), batch=2)
    await probe.next_answer()
    assert [(f.batch, f.reason) for f in probe.failures] == [(2, "busy")]


async def test_unit_that_is_not_complete_shows_what_was_done(
    probe: Probe, autojump_clock: MockClock
) -> None:
    await probe.lock()
    await probe.open()
    with pytest.raises(CallRefused) as refused:
        await probe.call(Finish(JOB, 0))
    assert refused.value.refusal == "unit_incomplete"
    await probe.push(given_rows(4))
    await probe.next_answer()
    shown = await probe.call(Finish(JOB, 0))
    assert isinstance(shown, ShownReceipt)
    receipt = decode(shown.receipt, WorkReceipt, size_max=TRANSACTION_BYTES_MAX)
    assert [b.index for b in receipt.batches] == [0]


async def test_closed_unit_takes_no_more_and_its_receipt_stays(
    probe: Probe, autojump_clock: MockClock
) -> None:
    await probe.lock()
    await probe.open()
    await probe.push(given_rows(4))
    await probe.next_answer()
    await probe.send(CloseWork(JOB, 0))
    await probe.push(given_rows(4), batch=1)
    assert isinstance(await probe.call(Finish(JOB, 0)), ShownReceipt)
    assert probe.worker.executor.standing().slots_free == Terms().units_max


async def test_micro_batch_taken_back_leaves_its_run_and_is_in_no_receipt(
    probe: Probe, autojump_clock: MockClock
) -> None:
    """It waits, arrives or runs when the requester takes it back; the other one is done."""
    probe.worker.runner.run_s = 40.0
    await probe.lock()
    await probe.open()
    began = trio.current_time()
    await probe.push(given_rows(4))
    await probe.push(given_rows(4), batch=1)
    await trio.sleep(20)  # batch 0 runs, batch 1 waits behind it
    await probe.send(CancelBatch(JOB, 0, 0))
    await probe.send(CancelBatch(JOB, 0, 7))  # a job of three
    await probe.next_answer()
    assert [result.batch for result in probe.results] == [1]
    assert trio.current_time() - began < 70  # not 80: the run of batch 0 was ended
    await probe.push(given_rows(4))  # a batch taken back never comes again
    shown = await probe.call(Finish(JOB, 0))
    assert isinstance(shown, ShownReceipt)
    receipt = decode(shown.receipt, WorkReceipt, size_max=TRANSACTION_BYTES_MAX)
    assert [b.index for b in receipt.batches] == [1]
    assert probe.failures == []


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"kind": WorkKind.EVALUATE}, "unsupported"),
        ({"price_per_row": PRICE - 1}, "price_below_ask"),
        ({"stages": 7}, "not_named"),
        ({"model": b"\x01\x55\x12\x20" + b"?" * 32}, "worker_failed"),
        ({"workers": (b"a" * 32, b"b" * 32)}, "not_named"),
    ],
)
async def test_lock_that_does_not_meet_the_terms_is_refused(
    changes: dict[str, object], word: str, probe: Probe, autojump_clock: MockClock
) -> None:
    await probe.lock(**changes)
    with pytest.raises(CallRefused) as refused:
        await probe.open()
    assert refused.value.refusal == word
    assert probe.worker.executor.standing().slots_free == Terms().units_max


async def test_opening_needs_lock_name_signature_and_time(
    probe: Probe, autojump_clock: MockClock
) -> None:
    async def refusal(opening: Open) -> str:
        with pytest.raises(CallRefused) as refused:
            await probe.call(opening)
        return refused.value.refusal

    assert await refusal(probe.opening()) == "unknown_job"
    await probe.lock()
    assert await refusal(probe.opening(unit=1)) == "unknown_job"
    assert await refusal(probe.opening(worker=b"w" * 32)) == "not_named"
    assert await refusal(probe.opening(index=2)) == "bad_signature"
    probe.cluster.world.time_ms += 100_000
    assert await refusal(probe.opening()) == "job_closed"


async def test_unit_alone_needs_a_pledge(probe: Probe, autojump_clock: MockClock) -> None:
    worker, bond = probe.worker, 20 * PRICE * sum(ROWS)
    key, state = pledged_key(worker.address), probe.cluster.world.state
    await probe.lock(needed=1, workers=(worker.address,))
    state[key] = encode(Pledged(amount=bond - 1, held=0))
    with pytest.raises(CallRefused, match="1 micro-FTNS more"):
        await probe.open()
    state[key] = encode(Pledged(amount=bond, held=0))
    await probe.open()
    assert worker.executor._engaged() == {(JOB, 0)}


async def test_halted_model_is_refused(probe: Probe, autojump_clock: MockClock) -> None:
    await probe.lock()
    world = probe.cluster.world
    world.submit(b"o" * 32, HALT, Halt(cid=MODEL, lift=False, reason="recalled"))
    world.make_block()
    with pytest.raises(CallRefused) as refused:
        await probe.open()
    assert refused.value.refusal == "halted"


async def test_lock_that_comes_later_is_waited_for(
    probe: Probe, autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    nursery.start_soon(probe.lock)
    assert (await probe.open()).unit == 0


async def test_receipt_is_shown_to_a_co_worker_that_committed_its_own(
    probe: Probe, autojump_clock: MockClock
) -> None:
    """Before both hashes are on the ledger nothing is shown, so that no root can be copied."""
    await probe.lock()
    await probe.open()
    for batch, rows in enumerate(ROWS):
        await probe.push(given_rows(rows), batch=batch)
        await probe.next_answer()
    await probe.call(Finish(JOB, 0))

    def asking(asker: int, digest: bytes, *, signer: int) -> AskReceipt:
        network = probe.network
        unsigned = AskReceipt(
            job=JOB,
            unit=0,
            worker=probe.worker.address,
            asker=probe.cluster.nodes[asker].address,
            receipt_hash=digest,
            signature=bytes(64),
        )
        statement = ask_receipt_statement(
            unsigned,
            chain_id=probe.cluster.world.genesis.chain_id,
            asker_peer=network.peer_id,
        )
        signature = Ed25519Signer(seed(signer)).sign(statement)
        return msgspec.structs.replace(unsigned, signature=signature)

    for ask, word in (
        (asking(2, b"h" * 32, signer=2), "not_named"),
        (asking(2, b"h" * 32, signer=3), "bad_signature"),
    ):
        with pytest.raises(CallRefused) as refused:
            await probe.call(ask)
        assert refused.value.refusal == word


async def test_receipt_kept_by_an_earlier_run_is_committed_and_dropped_when_paid(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    """A worker stopped between making its receipt and committing it."""
    cluster = make_cluster()
    world, node = cluster.world, cluster.nodes[1]
    job = Lock(
        job=JOB,
        tenant=b"",
        asset=0,
        parent=None,
        batch_rows=(1,),
        units=(Unit(WorkKind.INFER, MODEL, 1, 0, 0, 1, 2, PRICE, None, (node.address, b"w" * 32)),),
        budget=0,
        shares=(),
        deadline_ms=world.time_ms + 50_000,
        is_open_ended=False,
    )
    world.submit(cluster.requester.address, LOCK, job)
    world.make_block()
    receipt = sign_receipt(
        WorkReceipt(
            version=RECEIPT_VERSION,
            chain_id=world.genesis.chain_id,
            job=JOB,
            unit=0,
            kind=WorkKind.INFER,
            worker=node.address,
            model=MODEL,
            stages=1,
            stage=0,
            class_id=bytes(32),
            batches=(BatchResult(0, 1, bytes(32), bytes(32), bytes(32)),),
            measured=Measured(0, 1, 0, 0),
            price_per_row=PRICE,
            started_height=1,
            ended_height=1,
            signature=bytes(64),
        ),
        node.chain.signer,
    )
    store = node.claims._store
    await store.keep(JOB, 0, encode((receipt, ())))
    await cluster.start(nursery)
    await trio.sleep(1)
    bound = node.chain.committed(JOB, 0, node.address)
    assert bound is not None
    assert bound.receipt_hash == receipt_hash(receipt)
    assert await store.load() == (encode((receipt, ())),)
    await trio.sleep(60)
    world.submit(cluster.requester.address, REFUND, Refund(JOB))
    await trio.sleep(1)
    assert await store.load() == ()
