"""What went in is provable: a worker computes nothing the requester did not sign."""
# ruff: noqa: ARG001 - autojump_clock is asked for by name, nothing reads it

import pytest
import trio
from trio.testing import MockClock

from prsm.node.inference.feeds import NO_FEED
from prsm.node.inference.transfer import cut
from prsm.node.net.handshake import ChainIdentity
from prsm.node.net.interface import Channel
from prsm.protocol.codec import encode
from prsm.protocol.messages.work import Finish, Push, Result, ShownReceipt, WorkFailed
from prsm.protocol.receipts import is_fed
from prsm.protocol.tensors import Tensor
from tests.tools.probe import JOB, PRICE, ROWS, Probe
from tests.tools.work import given_rows, make_cluster
from tests.tools.work_chain import VERIFIER


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


@pytest.mark.parametrize("lie", ["nobody", "a stranger", "another batch", "other rows"])
async def test_nothing_is_computed_without_the_word_of_the_requester(
    lie: str, probe: Probe, autojump_clock: MockClock
) -> None:
    """Goal: what went in is provable. Method: every feed the requester did not sign for it."""
    await probe.lock()
    await probe.open()
    tensors = given_rows(4)
    word = {
        "nobody": NO_FEED,
        "a stranger": probe.feed(tensors, index=2).signature,
        "another batch": probe.feed(tensors, batch=1).signature,
        "other rows": probe.feed((tensors[1], tensors[0])).signature,
    }[lie]
    [part] = cut(tensors)
    await probe.send(Push(JOB, 0, 0, 0, 1, part.heads, word), part.data)
    await probe.next_answer()
    assert [(f.batch, f.reason) for f in probe.failures] == [(0, "bad_signature")]
    assert probe.worker.executor._leases[JOB, 0].done == {}
    await probe.assert_alive()


async def test_feeds_are_kept_with_the_receipt_they_explain(
    probe: Probe, autojump_clock: MockClock
) -> None:
    """Over a restart too: they are in the file of the receipt."""
    await probe.lock()
    await probe.open()
    for batch, rows in enumerate(ROWS):
        await probe.push(given_rows(rows), batch=batch)
        await probe.next_answer()
    assert isinstance(await probe.call(Finish(JOB, 0)), ShownReceipt)
    chain, claims = probe.worker.chain, probe.worker.claims
    claim = claims._claims[JOB, 0]
    assert await claims._store.load() == (encode((claim.receipt, claim.feeds)),)
    assert [feed.batch for feed in claim.feeds] == [0, 1, 2]
    for feed, done in zip(claim.feeds, claim.receipt.batches, strict=True):
        assert feed.input_root == done.input_root
        account = probe.cluster.requester.address
        assert is_fed(feed, account, chain_id=chain.chain_id, verifier=VERIFIER)


async def test_workers_that_were_fed_differently_are_both_paid(
    probe: Probe, autojump_clock: MockClock
) -> None:
    """The requester signs other rows for each of two, and settles nothing: its feeds convict it."""
    workers = probe.cluster.nodes[1:3]
    await probe.lock(workers=tuple(node.address for node in workers))
    before = [probe.cluster.world.balance(node.address) for node in workers]
    for place, node in enumerate(workers):
        statement = probe.opening(worker=node.address)
        await probe.network.call(node.network.peer_id, statement, channel=Channel.CTL)
        for batch, rows in enumerate(ROWS):
            x, mask = given_rows(rows)
            tensors = (x, mask) if place == 0 else (Tensor(x.head, bytes(len(x.data))), mask)
            for part in cut(tensors):
                word = probe.feed(tensors, batch=batch).signature
                push = Push(JOB, 0, batch, part.chunk, part.chunks, part.heads, word)
                peer = node.network.peer_id
                await probe.network.send(peer, push, channel=Channel.BULK, tail=part.data)
            await probe.next_answer()
    await trio.sleep(120)  # the workers' own patience with the requester
    job = probe.worker.chain.job(JOB)
    assert job is not None
    assert job.verdicts[0] is not None
    pay = sum(ROWS) * PRICE * 95 // 100
    after = [probe.cluster.world.balance(node.address) for node in workers]
    assert [now - then for now, then in zip(after, before, strict=True)] == [pay, pay]
    assert [opinion.wrong for opinion in job.verdicts[0].opinions] == [0, 0]
