"""Bad input to one real daemon: one clear line each, the JSON-RPC code, and it stays up.

A validator alone serves the whole module; the last test ends it while it works. What does not
need a process is tested below: tests/unit/node/api, tests/integration/test_chain_faults.
"""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from prsm.node.home import Home
from prsm.node.rpc.client import Client, RpcError
from prsm.node.rpc.dispatch import BODY_BYTES_MAX
from prsm.node.rpc.methods.chain import SubmitParams, Submitted
from prsm.node.rpc.methods.models import AddParams, ModelInfo, RefParams
from prsm.node.rpc.methods.node import NodeStatus
from prsm.node.rpc.methods.wallet import TransferParams, Transferred, Unlocked, UnlockParams
from prsm.node.rpc.methods.work import Job, RunParams, TensorText
from prsm.node.worker.recipes.decoder import Config, write
from prsm.protocol.codec import encode
from prsm.protocol.ed25519 import Ed25519Signer
from prsm.protocol.genesis import from_json
from prsm.protocol.transactions.envelope import Transaction, sign_transaction
from prsm.protocol.transactions.payloads import TRANSFER, Transfer
from prsm.storage.keystore import load_key
from prsm.testnet import launch

pytestmark = [pytest.mark.slow, pytest.mark.e2e]
SECONDS = 60.0
RSS_MIB_MAX = 130
STOP_SECONDS = 5.0


@dataclass(frozen=True)
class World:
    """A daemon alone in its network, and a good model."""

    network: launch.Network
    folder: Path
    model: Path
    tokenizer: Path

    @property
    def node(self) -> launch.Node:
        return self.network.nodes[0]

    def client(self) -> Client:
        return self.node.client(timeout_s=SECONDS)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("bad-input")
    network = launch.create(folder / "net", 1)
    try:
        network.start()
        model, tokenizer = write(folder / "model", Config(layers=2, width=64, heads=2))
        yield World(network, folder, model, tokenizer)
    finally:
        network.stop()


@pytest.fixture
def same_process(world: World) -> Iterator[None]:
    """After each test that names it, the same process still answers, and its chain moves."""
    with world.client() as client:
        before = client.call("node_getStatus", result=NodeStatus)
    yield
    with world.client() as client:
        after = client.call("node_getStatus", result=NodeStatus)
        assert (after.pid, after.state) == (before.pid, "ready")
        assert after.height >= before.height
        assert all(part.restarts == 0 for part in after.parts)


def refused(call: RpcError) -> tuple[int, str]:
    """Code and reason; what, why and what to type are never empty."""
    assert call.what
    assert "\n" not in call.what
    assert call.why
    assert call.hint
    return call.code, call.reason


def start(home: Home, *, program: Sequence[str] = launch.HONEST) -> tuple[int, list[str]]:
    """Start a daemon that must not come up: its exit code and last words."""
    done = subprocess.run(
        [*program, "--home", str(home.root)],
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    return done.returncode, done.stderr.strip().splitlines()[-4:]


# -- starts that fail beside the running daemon


def test_locked_home_names_the_pid(world: World, same_process: None) -> None:  # noqa: ARG001 - judges afterwards
    """A second daemon in the same folder."""
    code, words = start(world.node.home)
    assert code == 1
    assert f"is in use by process {world.node.pid}" in words[0]
    assert words[3] == "PRSM-6004"


@pytest.mark.parametrize(("key", "number"), [("rpc", "PRSM-6006"), ("net", "PRSM-4006")])
def test_taken_port_is_named(world: World, same_process: None, key: str, number: str) -> None:  # noqa: ARG001 - judges afterwards
    """Another home with the running daemon's port: who holds it, in one line."""
    other = launch.create(world.folder / f"taken-{key}", 1).nodes[0]
    mine, theirs = (home.config.read_text().splitlines() for home in (world.node.home, other.home))
    place = {"rpc": "[rpc]", "net": "[net]"}[key]
    theirs[theirs.index(place) + 1] = mine[mine.index(place) + 1]
    other.home.config.write_text("\n".join(theirs) + "\n")
    code, words = start(other.home)
    assert code == 1
    assert words[3] == number, words
    assert f"process {world.node.pid}" in words[0]


def test_wrong_password_is_said(world: World) -> None:
    """The password file holds another one: nothing starts."""
    other = launch.create(world.folder / "password", 1).nodes[0]
    (other.home.root / "password").write_text("guess\n")
    code, words = start(other.home)
    assert code == 4
    assert "does not open" in words[0]
    assert words[3] == "PRSM-5010"


def test_wrong_genesis_is_said(world: World) -> None:
    """A home that has a ledger gets the genesis of another network."""
    network = launch.create(world.folder / "genesis", 1)
    home = network.nodes[0].home
    network.start()
    assert network.stop()
    foreign = launch.create(world.folder / "foreign", 1)
    home.genesis.write_bytes(foreign.genesis.read_bytes())
    code, words = start(home)
    assert code == 1
    assert "began with" in words[0]
    assert words[3] == "PRSM-2016"
    home.genesis.write_bytes(b"{}")
    code, words = start(home)
    assert (code, words[3]) == (1, "PRSM-2016")


def test_absent_genesis_is_said(world: World) -> None:
    """A home without its genesis file."""
    home = launch.create(world.folder / "absent", 1).nodes[0].home
    home.genesis.unlink()
    code, words = start(home)
    assert (code, words[3]) == (1, "PRSM-2016")
    assert "genesis.json cannot be read" in words[0]


# -- calls to the running daemon


@pytest.mark.parametrize("method", ["model_get", "model_pull"])
def test_unknown_model(world: World, same_process: None, method: str) -> None:  # noqa: ARG001 - judges afterwards
    """Nobody knows the name."""
    with world.client() as client, pytest.raises(RpcError) as call:
        client.call(method, RefParams("nothing@1.0.0"), result=object)
    assert refused(call.value) == (-32030, "model_not_found")


@pytest.mark.parametrize("vice", ["nonsense", "external data", "foreign operator"])
def test_hostile_model_is_refused(world: World, same_process: None, vice: str) -> None:  # noqa: ARG001 - judges afterwards
    """Garbage, weights in another file, an operator of a foreign domain: the gate says no."""
    import onnx  # noqa: PLC0415 - only here

    path = world.folder / f"{vice.replace(' ', '-')}.onnx"
    if vice == "nonsense":
        path.write_bytes(b"no model at all")
    else:
        model = onnx.load(world.model)
        if vice == "external data":
            tensor = model.graph.initializer[0]
            tensor.data_location = onnx.TensorProto.EXTERNAL
            tensor.external_data.add(key="location", value="/etc/passwd")
        else:
            model.graph.node[0].domain = "com.example"
            model.graph.node[0].op_type = "System"
            model.opset_import.add(domain="com.example", version=1)
        path.write_bytes(model.SerializeToString())
    with world.client() as client, pytest.raises(RpcError) as call:
        client.call("model_add", AddParams(path=str(path), name="bad"), result=ModelInfo)
    assert refused(call.value) == (-32040, "model_refused")


def test_model_that_is_no_file(world: World, same_process: None) -> None:  # noqa: ARG001 - judges afterwards
    """Absent, and a relative path."""
    for path in ("/nowhere/model.onnx", "model.onnx"):
        with world.client() as client, pytest.raises(RpcError) as call:
            client.call("model_add", AddParams(path=path, name="bad"), result=ModelInfo)
        assert refused(call.value) == (-32003, "not_found")


def test_model_that_cannot_be_cut_so(world: World, same_process: None) -> None:  # noqa: ARG001 - judges afterwards
    """More stages than the graph has cuts: the ones it has are named."""
    asked = AddParams(path=str(world.model), name="bad", stages=(16,))
    with world.client() as client, pytest.raises(RpcError) as call:
        client.call("model_add", asked, result=ModelInfo)
    assert refused(call.value) == (-32602, "no_cut_for_k")


def test_taken_name_and_wrong_inputs(world: World, same_process: None) -> None:  # noqa: ARG001 - judges afterwards
    """A good model is added; its name again is a conflict; inputs of another form fail the job."""
    asked = AddParams(
        path=str(world.model), name="encoder", stages=(2,), tokenizer=str(world.tokenizer)
    )
    with world.client() as client:
        client.call("model_add", asked, result=ModelInfo)
        with pytest.raises(RpcError) as call:
            client.call("model_add", asked, result=ModelInfo)
        assert refused(call.value) == (-32004, "conflict")
        for wrong in (
            TensorText("nobody", "i64", (1, 4), "0x" + "00" * 32),
            TensorText("input_ids", "u8", (1, 4), "0x" + "00" * 4),
            TensorText("input_ids", "i64", (1,), "0x" + "00" * 8),
        ):
            run = RunParams("encoder", inputs=(wrong,), wait_ms=10_000)
            job = client.call("infer_run", run, result=Job)
            assert job.error is not None
            assert job.error.reason == "input_mismatch"
        for both in (RunParams("encoder"), RunParams("encoder", texts=("a",), inputs=(wrong,))):
            with pytest.raises(RpcError) as call:
                client.call("infer_run", both, result=Job)
            assert refused(call.value) == (-32035, "input_mismatch")
        alone = RunParams("encoder", texts=("a text",), wait_ms=30_000)
        job = client.call("infer_run", alone, result=Job)
        assert job.error is not None
        assert job.error.reason == "too_few_peers"


def signed(world: World, *, nonce: int, chain_id: bytes | None = None) -> bytes:
    """A payment by the daemon's own key, signed by hand."""
    genesis = from_json(world.network.genesis.read_bytes())
    home = world.node.home
    seed = load_key(
        home.wallet_key("default"), password=launch.PASSWORD, purpose="wallet", development=True
    )
    signer = Ed25519Signer(seed)
    unsigned = Transaction(
        version=1,
        chain_id=chain_id or genesis.chain_id,
        kind=TRANSFER,
        sender=signer.public_key,
        nonce=nonce,
        fee=10**6,
        payload=encode(Transfer(asset=0, to=bytes(32), amount=1, memo=b"")),
        valid_until_ms=time.time_ns() // 10**6 + 60_000,
        signature=bytes(64),
    )
    return encode(sign_transaction(unsigned, signer))


def test_bad_transactions(world: World, same_process: None) -> None:  # noqa: ARG001 - judges afterwards
    """Signature, network, nonce, balance, bytes."""
    forged = signed(world, nonce=0)
    forged = forged[:-1] + bytes([forged[-1] ^ 1])
    for raw, expected in (
        (forged, (-32012, "bad_signature")),
        (signed(world, nonce=0, chain_id=b"elsewher"), (-32051, "wrong_chain")),
        (signed(world, nonce=999), (-32011, "nonce_gap")),
        (b"\xc1", (-32602, "bad_encoding")),
    ):
        with world.client() as client, pytest.raises(RpcError) as call:
            client.call("chain_submitTransaction", SubmitParams("0x" + raw.hex()), result=Submitted)
        assert refused(call.value) == expected
    asked = TransferParams("0x" + "11" * 32, "9" * 17)
    with world.client() as client, pytest.raises(RpcError) as call:
        client.call("wallet_transfer", asked, result=Transferred)
    assert refused(call.value) == (-32010, "insufficient_funds")


def test_wrong_password_of_a_key(world: World, same_process: None) -> None:  # noqa: ARG001 - judges afterwards
    """Over RPC."""
    with world.client() as client, pytest.raises(RpcError) as call:
        client.call("wallet_unlock", UnlockParams("guess"), result=Unlocked)
    assert refused(call.value) == (-32001, "wrong_password")


def test_body_that_is_too_large(world: World, same_process: None) -> None:  # noqa: ARG001 - judges afterwards
    """More than the door takes: refused by its length."""
    with world.client() as client, pytest.raises(RpcError) as call:
        client.call_raw("rpc_ping", {"x": "a" * BODY_BYTES_MAX})
    assert refused(call.value) == (-32008, "too_large")


# -- without its worker program, and at its end


def test_daemon_is_up_without_its_worker_program(world: World) -> None:
    """A worker that never starts: the node agrees, pays and answers; adding a model waits."""
    node = launch.create(world.folder / "no-worker", 1).nodes[0]
    code = (
        "import sys; from prsm.node.process import main;"
        "sys.exit(main(sys.argv[1:], worker_command=('/bin/false',)))"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", code, "--home", str(node.home.root)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    node.pid = child.pid
    try:
        node.wait_ready(time.monotonic() + SECONDS)
        deadline = time.monotonic() + 3
        while time.monotonic() < deadline:  # longer than the worker's attempts together
            assert child.poll() is None
            launch.nap()
        with node.client() as client:
            sent = client.call(
                "wallet_transfer", TransferParams("0x" + "11" * 32, "1"), result=Transferred
            )
            assert sent.nonce == 0
            status = client.call("node_getStatus", result=NodeStatus)
        assert {part.name: part.state for part in status.parts}["worker"] == "starting"
    finally:
        child.send_signal(signal.SIGTERM)
        assert child.wait(timeout=SECONDS) == 0


def rss_mib(pid: int) -> float:
    """Resident memory of one process, without its children."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("VmRSS:"))) / 1024


def test_memory_is_bounded(world: World) -> None:
    """After everything above the daemon itself has at most 130 MiB."""
    assert rss_mib(world.node.pid) <= RSS_MIB_MAX


def children(pid: int) -> list[int]:
    """Processes below a process, all generations."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            found += [int(child), *children(int(child))]
    return found


def test_daemon_stops_in_time_with_work_running(world: World) -> None:
    """SIGTERM while a model is prepared: gone within 5 s, with every process below it."""
    model, _ = write(world.folder / "large", Config(layers=12))
    answers: list[Exception] = []

    def add() -> None:
        asked = AddParams(path=str(model), name="large", stages=(2, 3, 4, 6))
        try:
            with world.client() as client:
                client.call("model_add", asked, result=ModelInfo)
        except Exception as error:  # noqa: BLE001 - the door may close in any way
            answers.append(error)

    thread = threading.Thread(target=add)
    thread.start()
    deadline = time.monotonic() + SECONDS
    while len(children(world.node.pid)) < 2:  # the fork server and the child that prepares
        assert time.monotonic() < deadline
        launch.nap()
    below = children(world.node.pid)
    began = time.monotonic()
    assert world.network.stop(), "SIGTERM was not enough"
    assert time.monotonic() - began < STOP_SECONDS
    thread.join(timeout=SECONDS)
    assert len(answers) == 1
    while any(_is_there(pid) for pid in below):
        assert time.monotonic() < began + STOP_SECONDS
        launch.nap()


def _is_there(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    state = Path(f"/proc/{pid}/stat")
    return state.exists() and state.read_text().rsplit(")", 1)[1].split()[0] != "Z"
