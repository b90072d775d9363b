"""`prsm bench`: what this node and machine can do, measured now, beside what is wanted of them.

Knows: the methods it times, the folder it writes to. Must not know: how they are answered.
"""

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import click

from prsm.node.cli.session import Session, pass_session, pause
from prsm.node.cli.words import Words
from prsm.node.rpc.errors import CallTimeout
from prsm.node.rpc.faults import fault_told
from prsm.protocol.ids import parse_ftns

_CHUNK: Final = os.urandom(1 << 20)
_SYNC_MS_WANTED: Final = 10.0  # a block waits for two of them
_DISK_MB_S_WANTED: Final = 50.0
_DOOR_P50_MS_WANTED: Final = 1.0
_COMMIT_P50_MS_WANTED: Final = 2_000.0

bench = Words("bench", help="What this node and machine can do, measured now.")


@bench.command("disk")
@click.option("--mib", type=click.IntRange(1, 4096), default=64, show_default=True)
@click.option("--syncs", type=click.IntRange(1, 10_000), default=100, show_default=True)
@pass_session
def disk(session: Session, *, mib: int, syncs: int) -> None:
    """Write and read a file in the data folder, then small writes that are forced to disk."""
    home = session.home
    home.check()
    file = home.data / f".bench.{os.getpid()}"
    try:
        written_s, read_s = _stream(file, mib)
        forced = [_forced_ms(file) for _ in range(syncs)]
    finally:
        file.unlink(missing_ok=True)
    rows = [
        _row("write, forced", mib * 1.048576 / written_s, "MB/s", at_least=_DISK_MB_S_WANTED),
        _row("read, perhaps from memory", mib * 1.048576 / read_s, "MB/s"),
        _row("4 KiB forced, half of them", _part(forced, 50), "ms", at_most=_SYNC_MS_WANTED),
        _row("4 KiB forced, 99 of 100", _part(forced, 99), "ms"),
    ]
    session.answer_value({"what": "disk", "items": rows})


@bench.command("net")
@click.option("--calls", type=click.IntRange(1, 100_000), default=500, show_default=True)
@pass_session
def net(session: Session, *, calls: int) -> None:
    """Calls of the node's door one after another, and the round trips to its peers."""
    session.ask("rpc_ping")
    taken = [_timed_ms(session, "rpc_ping") for _ in range(calls)]
    rows = [
        _row("a call, half of them", _part(taken, 50), "ms", at_most=_DOOR_P50_MS_WANTED),
        _row("a call, 99 of 100", _part(taken, 99), "ms"),
        _row("calls, one after another", 1000 * calls / sum(taken), "1/s"),
    ]
    rows += [
        _row(f"round trip to {peer['peer_id']}", peer["rtt_ms"], "ms")
        for peer in session.ask("net_getPeers")["items"]
        if peer["rtt_ms"] is not None
    ]
    session.answer_value({"what": "net", "items": rows})


@bench.command("consensus")
@click.option("--writes", type=click.IntRange(1, 1_000), default=10, show_default=True)
@click.option("--dry-run", is_flag=True, help="Say what it would pay, and pay nothing.")
@pass_session
def consensus(session: Session, *, writes: int, dry_run: bool) -> None:
    """Transfers of this node's wallet to itself, each timed from the call to its block.

    They pay the network's fee, if it has one.
    """
    status = session.ask("node_getStatus")
    own = str(status["wallet"])
    if dry_run:
        session.answer_value({"what": "consensus", "writes": writes, "to": own, "amount_each": "1"})
        return
    session.confirm(f"pay 1 micro-FTNS to ourselves, {writes} times?")
    taken = [_commit_ms(session, own) for _ in range(writes)]
    rows = [
        _row("to its block, half", _part(taken, 50), "ms", at_most=_COMMIT_P50_MS_WANTED),
        _row("to its block, the longest", max(taken), "ms"),
    ]
    session.answer_value({"what": "consensus", "items": rows})


@bench.command("infer")
@click.argument("model")
@click.option("--rows", type=click.IntRange(1, 4096), default=64, show_default=True)
@click.option("--max-price", metavar="FTNS", help="Lock at most this much; refused above.")
@click.option("--dry-run", is_flag=True, help="Plan it, say what it costs; lock nothing.")
@pass_session
def infer(session: Session, *, model: str, rows: int, max_price: str | None, dry_run: bool) -> None:
    """Run MODEL, which reads text, over so many rows; it is a job like any other and is paid."""
    texts = [f"a sentence of the measurement, number {number}" for number in range(rows)]
    params: dict[str, object] = {"model": model, "texts": texts}
    if max_price is not None:
        params["max_price"] = str(parse_ftns(max_price))
    session.timeout_s = max(session.timeout_s, 90.0)
    if dry_run:
        session.answer(session.call("infer_plan", params))
        return
    session.confirm(f"run {rows} rows of {model} and pay for them?")
    begun = time.monotonic()
    job = session.ask("infer_run", params)
    while not job["is_over"]:
        job = session.ask("job_get", {"job_id": job["job_id"], "wait_ms": 2_000})
    if job["state"] != "done":
        fault = job["error"] or {"reason": "job_failed", "what": f"it ended as {job['state']}"}
        raise fault_told(str(fault["reason"]), str(fault["what"]))
    whole_s = time.monotonic() - begun
    items = [
        _row("rows, from lock to last output", 1000 * rows / max(1, int(job["run_ms"])), "1/s"),
        _row("the whole job, with payment", whole_s, "s"),
    ]
    session.answer_value(
        {"what": "infer", "job_id": job["job_id"], "paid": job["paid"], "items": items}
    )


def _stream(file: Path, mib: int) -> tuple[float, float]:
    begun = time.monotonic()
    with file.open("wb") as out:
        for _ in range(mib):
            out.write(_CHUNK)
        out.flush()
        os.fsync(out.fileno())
    written = time.monotonic()
    with file.open("rb") as source:
        while source.read(1 << 20):
            pass
    return max(1e-9, written - begun), max(1e-9, time.monotonic() - written)


def _forced_ms(file: Path) -> float:
    begun = time.monotonic()
    with file.open("ab") as out:
        out.write(_CHUNK[:4096])
        out.flush()
        os.fsync(out.fileno())
    return (time.monotonic() - begun) * 1000


def _timed_ms(session: Session, method: str) -> float:
    begun = time.monotonic()
    session.call(method)
    return (time.monotonic() - begun) * 1000


def _commit_ms(session: Session, to: str) -> float:
    begun = time.monotonic()
    tx_id = session.ask("wallet_transfer", {"to": to, "amount": "1"})["tx_id"]
    while session.ask("chain_getTransaction", {"tx_id": tx_id})["status"] != "committed":
        if time.monotonic() - begun > session.timeout_s:
            raise CallTimeout(f"{tx_id} is in no block after {session.timeout_s:g} s")
        pause()
    return (time.monotonic() - begun) * 1000


def _part(values: Sequence[float], percent: int) -> float:
    """The value that so many of a hundred do not pass."""
    return sorted(values)[min(len(values) - 1, len(values) * percent // 100)]


def _row(
    name: str,
    value: float,
    unit: str,
    *,
    at_least: float | None = None,
    at_most: float | None = None,
) -> dict[str, Any]:
    is_well = (at_least is None or value >= at_least) and (at_most is None or value <= at_most)
    bars = [
        *((f">= {at_least:g}",) if at_least else ()),
        *((f"<= {at_most:g}",) if at_most else ()),
    ]
    row = {"name": name, "value": round(value, 3), "unit": unit}
    return {**row, "wanted": " ".join(bars), "well": is_well if bars else None}
