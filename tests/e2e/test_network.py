"""Real daemons as processes, over libp2p on loopback: agreement, work, a kill in mid-job.

One network serves the whole module: four validators that are workers too. Each test leaves it
running and in agreement.
"""

import json
import signal
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

import prsm.client
from prsm.node.rpc.client import Client, RpcError
from prsm.node.rpc.methods.chain import TransactionInfo, TxParams
from prsm.node.rpc.methods.gossip import Announcements, Delivery
from prsm.node.rpc.methods.models import AddParams, ModelInfo, RefParams
from prsm.node.rpc.methods.node import Health, NodeStatus
from prsm.node.rpc.methods.wallet import TransferParams, Transferred
from prsm.node.rpc.methods.work import Job, JobIdParams, JobParams, JobResult, RunParams
from prsm.node.worker.recipes.decoder import Config, write
from prsm.protocol.genesis import Genesis, from_json
from prsm.protocol.messages.announce import BLOCKS, CAPACITY, MODELS, STATUS, STORAGE
from prsm.testnet import invariants, launch, reference
from prsm.testnet.texts import project_sentences

pytestmark = [pytest.mark.slow, pytest.mark.e2e]
SECONDS = 90.0


@dataclass(frozen=True)
class World:
    """The network under test and a model that is on all of its nodes."""

    network: launch.Network
    genesis: Genesis
    model: Path
    tokenizer: Path
    cid: str


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Start four daemons, add a small encoder on the first, pull it on the others."""
    folder = tmp_path_factory.mktemp("e2e")
    network = launch.create(folder / "net", 4)
    try:
        network.start()
        model, tokenizer = write(folder / "model", Config(layers=6))
        with client(network, 0) as first:
            asked = AddParams(
                path=str(model), name="encoder", stages=(3,), tokenizer=str(tokenizer)
            )
            added = first.call("model_add", asked, result=ModelInfo)
        genesis = from_json(network.genesis.read_bytes())
        invariants.check(network, genesis)  # the name is in a block on the first node only
        for place in (1, 2, 3):
            with client(network, place) as other:
                held = other.call("model_pull", RefParams("encoder@1.0.0"), result=ModelInfo)
                assert held.held_bytes == added.size_bytes
        yield World(network, genesis, model, tokenizer, added.cid)
    finally:
        assert network.stop(), "a daemon did not end on SIGTERM"


def client(network: launch.Network, place: int) -> Client:
    return network.nodes[place].client(timeout_s=SECONDS)


def in_agreement(world: World) -> None:
    """All nodes: one chain, one root, all money."""
    found = invariants.check(world.network, world.genesis)
    assert found.nodes == 4
    assert found.same_state_root
    assert found.supply_conserved
    invariants.check_chain(world.network)


def committed(node: Client, tx_id: str) -> TransactionInfo:
    """Wait until a transaction is in a block."""
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        found = node.call("chain_getTransaction", TxParams(tx_id), result=TransactionInfo)
        if found.status == "committed":
            return found
        launch.nap()
    raise AssertionError(f"{tx_id} is in no block")


def pay(world: World, giver: int, taker: int, amount: int) -> TransactionInfo:
    with client(world.network, taker) as other:
        to = other.call("node_getStatus", result=NodeStatus).wallet
    assert to is not None
    with client(world.network, giver) as node:
        sent = node.call("wallet_transfer", TransferParams(to, str(amount)), result=Transferred)
        return committed(node, sent.tx_id)


def test_every_node_hears_what_all_others_announce(world: World) -> None:
    """Capacity, room, status and the model that each of the four offers, on each of them."""
    deadline = time.monotonic() + SECONDS
    for node in world.network.nodes:
        with node.client(timeout_s=SECONDS) as asked:
            heard: dict[str, int] = {}
            while time.monotonic() < deadline:
                found = asked.call("net_getAnnouncements", result=Announcements).items
                heard = Counter(each.topic for each in found if each.topic != BLOCKS.name)
                if heard == {one.name: 4 for one in (CAPACITY, STATUS, MODELS, STORAGE)}:
                    break
                launch.nap()
            else:
                raise AssertionError(f"{node.name} heard {heard}")
            report = asked.call("net_getDelivery", result=Delivery)
            assert sum(topic.refused for topic in report.items) == 0


def test_transfers_leave_one_state_on_all_nodes(world: World) -> None:
    """Each node pays the next; balances and roots agree everywhere."""
    for place in range(4):
        assert pay(world, place, (place + 1) % 4, 1_000_000 + place).ok
    in_agreement(world)


def test_too_small_balance_is_refused_before_it_costs_a_fee(world: World) -> None:
    """A transfer of more than there is: typed, at once, and nothing moves."""
    with client(world.network, 0) as node:
        before = node.call("node_getStatus", result=NodeStatus)
        assert before.wallet is not None
        asked = TransferParams("0x" + "11" * 32, str(10**17))
        with pytest.raises(RpcError) as refused:
            node.call("wallet_transfer", asked, result=Transferred)
        assert refused.value.reason == "insufficient_funds"
        assert refused.value.code == -32010
    in_agreement(world)


def test_unknown_model_is_refused_by_name(world: World) -> None:
    """Asking for a model nobody knows gives -32030 and what to type."""
    with client(world.network, 0) as node, pytest.raises(RpcError) as refused:
        node.call("infer_run", RunParams("nothing@1.0.0", texts=("a text",)), result=Job)
    assert refused.value.code == -32030
    assert "prsm model" in refused.value.hint


def test_the_python_client_hears_of_its_job_and_checks_its_receipt(world: World) -> None:
    """Rows of /ws as the job goes, outputs by name, the receipt against the genesis alone."""
    texts = project_sentences(2)
    home = world.network.nodes[0].home.root
    with prsm.client.Client(home) as node, node.subscribe("jobs") as rows:
        job = node.run(world.cid, texts).wait(SECONDS)
        assert rows.next(SECONDS).result.job_id == job.id
        assert len(job.outputs()["sentence_embedding"].tolist()) == len(texts)
        proof = job.proof()
        assert proof.verify(world.network.genesis).rows == len(texts)
        document = json.loads(proof.document)
        document["payments"][0]["micro_ftns"] += "0"
        forged = prsm.client.Proof(json.dumps(document).encode())
        with pytest.raises(prsm.client.errors.BadReceipt):
            forged.verify(world.network.genesis)
    in_agreement(world)


def test_job_ends_with_the_same_bytes_when_a_worker_is_killed(world: World) -> None:
    """Kill -9 of a worker-validator in mid-job: same bytes, the ledger goes on, it rejoins."""
    texts = project_sentences(200)
    victim = world.network.nodes[3]
    with client(world.network, 0) as node:
        job = node.call("infer_run", RunParams(world.cid, texts=tuple(texts), stages=3), result=Job)
        deadline = time.monotonic() + SECONDS
        while job.rows_done < 8:
            assert not job.is_over, job.error
            assert time.monotonic() < deadline
            job = node.call("job_get", JobParams(job.job_id), result=Job)
        victim.signal(signal.SIGKILL)
        done_at_kill = job.rows_done
        while not job.is_over:
            assert time.monotonic() < deadline
            job = node.call("job_get", JobParams(job.job_id, wait_ms=500), result=Job)
        assert job.state == "done", job.error
        assert done_at_kill < job.rows == len(texts)
        result = node.call("job_getResult", JobIdParams(job.job_id), result=JobResult)
    whole = reference.run_whole(world.model, world.tokenizer, texts)
    assert reference.differing_rows(whole, bytes.fromhex(result.outputs[0].data[2:])) == []
    assert any(worker.verdict == "lost" for worker in job.workers)
    assert pay(world, 1, 2, 1).ok, "the ledger goes on without the killed node"
    assert not victim.is_running()
    victim.start()
    victim.wait_ready(time.monotonic() + SECONDS)
    launch.wait_peers(victim, 3, time.monotonic() + SECONDS)
    in_agreement(world)
    assert pay(world, 3, 0, 1).ok, "the returned node pays and votes again"
    in_agreement(world)
    check_metrics(world)


def check_metrics(world: World) -> None:
    """What the nodes counted of all this: blocks, votes, calls, a job, work for others."""
    seen: set[str] = set()
    for place in range(4):  # who computes is drawn: not each name is on each node
        with client(world.network, place) as node:
            status, body = node.get("/metrics")
            health = node.call("node_getHealth", result=Health)
        assert status == 200
        assert [alert.name for alert in health.alerts if alert.severity == "critical"] == []
        seen |= {
            sample.name
            for family in text_string_to_metric_families(body.decode())
            for sample in family.samples
            if sample.value and not sample.name.endswith("_bucket")
        }
    for name in (
        *("prsm_build_info", "prsm_node_up", "prsm_peers", "prsm_peer_messages_total"),
        *("prsm_peer_bytes_total", "prsm_consensus_height"),
        *("prsm_consensus_round_duration_seconds_count", "prsm_consensus_votes_total"),
        *("prsm_block_transactions_count", "prsm_tx_total", "prsm_tx_commit_duration_seconds_sum"),
        *("prsm_ledger_supply_base_units", "prsm_jobs_total", "prsm_job_duration_seconds_count"),
        *("prsm_shard_compute_seconds_count", "prsm_verification_total", "prsm_storage_bytes"),
        *("prsm_storage_quota_bytes", "prsm_rpc_requests_total", "prsm_rpc_duration_seconds_sum"),
        *("prsm_loop_lag_seconds_count", "process_resident_memory_bytes"),
    ):
        assert name in seen, name
