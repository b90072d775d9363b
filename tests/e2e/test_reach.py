"""A node that nobody can dial works for another such node, through a relay, paid and verified.

Four real daemons over libp2p: the first two listen, the first relays; the last two have no listener
at all and know the first two only. The second and the third work for the fourth, whose one way to
the third is a circuit, which they find by themselves.
"""

import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from prsm.node.rpc.client import Client
from prsm.node.rpc.methods.models import AddParams, ModelInfo, RefParams
from prsm.node.rpc.methods.node import NodeStatus, Peers
from prsm.node.rpc.methods.reach import ReachState, Topology
from prsm.node.rpc.methods.work import Job, JobIdParams, JobParams, RunParams
from prsm.node.worker.recipes.decoder import Config, write
from prsm.protocol.genesis import from_json
from prsm.testnet import invariants, launch, verify_receipt

pytestmark = [pytest.mark.slow, pytest.mark.e2e]
SECONDS = 60.0
SURPLUS_SECONDS = 15.0
RELAY, PLAIN, WORKER, ASKER = range(4)


def configure(network: launch.Network) -> None:
    """Let the last two nodes listen nowhere and know the first two; nobody names a circuit."""
    texts = [node.home.config.read_text() for node in network.nodes]
    [to_plain, *_] = _bootstrap(texts[RELAY])
    [to_relay, *_] = _bootstrap(texts[PLAIN])
    both = [to_relay, to_plain]
    told = {RELAY: [to_plain], PLAIN: [to_relay], WORKER: both, ASKER: both}
    for place, node in enumerate(network.nodes):
        text = re.sub(r"bootstrap = \[.*?\]", f"bootstrap = {told[place]!r}", texts[place], count=1)
        text = text.replace("'", '"').replace("[net]", f'[net]\nregion = "r{place}"', 1)
        if place in (WORKER, ASKER):
            text = re.sub(r"\nlisten = \[.*?\]", "\nlisten = []", text, count=1)
        if place == RELAY:
            text = text.replace("[net]", "[net]\nrelay = true", 1)
            text = text.replace("[executor]\nenabled = true", "[executor]\nenabled = false", 1)
        node.home.config.write_text(text)


def _bootstrap(text: str) -> list[str]:
    found = re.search(r"bootstrap = (\[.*?\])", text, re.DOTALL)
    assert found
    return msgspec.json.decode(found[1], type=list[str])


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[launch.Network]:
    made = launch.create(tmp_path_factory.mktemp("reach") / "net", 4)
    configure(made)
    try:
        made.start()
        yield made
    finally:
        assert made.stop(), "a daemon did not end on SIGTERM"


def client(network: launch.Network, place: int) -> Client:
    return network.nodes[place].client(timeout_s=SECONDS)


def test_unreachable_nodes_take_places_and_are_linked_through_the_relay(
    network: launch.Network,
) -> None:
    deadline = time.monotonic() + SURPLUS_SECONDS
    with client(network, RELAY) as relay:
        state = relay.call("net_getReach", result=ReachState)
        while state.relay.circuits > 1 and time.monotonic() < deadline:
            launch.nap()  # both dialled; the surplus connection of a pair is closed when idle
            state = relay.call("net_getReach", result=ReachState)
    assert state.relay.serves
    ids = []
    for place in (WORKER, ASKER):
        with client(network, place) as node:
            mine = node.call("net_getReach", result=ReachState)
            status = node.call("node_getStatus", result=NodeStatus)
            peers = node.call("net_getPeers", result=Peers).items
        ids.append(status.peer_id)
        assert (mine.verdict, mine.listening) == ("unreachable", ())
        assert [held.address for held in mine.places] == list(status.addresses)
        assert sorted(peer.relayed for peer in peers) == [False, False, True]
    assert sorted(state.relay.places) == sorted(ids)
    assert state.relay.circuits == 1
    assert state.relay.carried_bytes > 0


def test_topology_shows_every_link_from_both_ends(network: launch.Network) -> None:
    with client(network, PLAIN) as node:
        found = node.call("net_getTopology", result=Topology)
    assert sorted(each.region for each in found.nodes) == ["r0", "r1", "r2", "r3"]
    assert (len(found.links), found.one_sided, found.silent) == (6, 0, 0)
    assert [link.seen_by for link in found.links] == ["both"] * 6
    assert sum(link.relayed for link in found.links) == 1
    assert "unclear" not in {link.dialled_by for link in found.links}


def test_job_through_the_relay_is_paid_and_its_receipt_verifies(
    network: launch.Network, tmp_path: Path
) -> None:
    model, tokenizer = write(tmp_path / "model", Config(layers=2))
    genesis = from_json(network.genesis.read_bytes())
    with client(network, ASKER) as asker, client(network, WORKER) as worker:
        asked = AddParams(path=str(model), name="far", tokenizer=str(tokenizer))
        added = asker.call("model_add", asked, result=ModelInfo)
        worker.call("model_pull", RefParams(added.cid), result=ModelInfo)
        before = carried(network)
        account = worker.call("node_getStatus", result=NodeStatus).wallet
        job = asker.call(
            "infer_run", RunParams(added.cid, texts=("a", "b", "c"), replicas=1), result=Job
        )
        deadline = time.monotonic() + SECONDS
        while not job.is_over and time.monotonic() < deadline:
            job = asker.call("job_get", JobParams(job.job_id, wait_ms=500), result=Job)
        assert (job.state, job.error) == ("done", None)
        paid = {each.account: int(each.paid) for each in job.workers}
        assert account
        assert paid[account] > 0
        proof = tmp_path / "receipt.json"
        proof.write_bytes(asker.call_raw("job_getProof", JobIdParams(job.job_id)))
    assert carried(network) > before
    command = [
        sys.executable,
        verify_receipt.__file__,
        "--genesis",
        str(network.genesis),
        str(proof),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    agreed = invariants.check(network, genesis)
    assert agreed.same_state_root
    assert agreed.supply_conserved


def carried(network: launch.Network) -> int:
    with client(network, RELAY) as relay:
        return relay.call("net_getReach", result=ReachState).relay.carried_bytes
