"""A history from beginning to end: a network behind proxies, clients, faults, the judgement.

Knows: the order of the steps. Must not know: how a fault or an operation is made. Everything
started is ended again; the document says what was done and what was found.
"""

import math
import random
import shutil
import tempfile
import time
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

import msgspec
import trio

from prsm.node.rpc.methods.wallet import AccountParams, Balance
from prsm.protocol.errors import LocalError, PrsmError
from prsm.protocol.genesis import TREASURY, Allocation, Genesis, from_json
from prsm.protocol.ids import PublicKey, address_text
from prsm.testnet import launch
from prsm.testnet.asking import Asker, Door
from prsm.testnet.exports import export, settle, stopped
from prsm.testnet.faults import PASSING, schedule
from prsm.testnet.histories.check import Fault, Verdict, check
from prsm.testnet.histories.clients import Board, Client
from prsm.testnet.histories.record import Count, Read, Write
from prsm.testnet.links import NearLinks, Report
from prsm.testnet.orders import signer_of
from prsm.testnet.perturb import Perturber
from prsm.testnet.proxy import Proxy
from prsm.testnet.report import Screen

BALANCE: Final = 10**12  # micro-FTNS of each client: no run spends it on fees
CLIENTS_MAX: Final = 512
LIVE_SECONDS: Final = 30.0  # from healing until every open write is in a block
SETTLE_SECONDS: Final = 30.0
LOOK_SECONDS: Final = 0.05
REPORT_SECONDS: Final = 10.0
VIOLATIONS_SHOWN: Final = 20


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line asks for."""

    operations: int = 5_000
    seed: int = 0
    nodes: int = 5
    clients: int = 32
    scale: float = 1.0  # of the faults' durations
    seconds: float = math.inf  # of load; then it is over, however few operations that were
    keep: bool = False


@dataclass(slots=True)
class _Played:
    """What there is to judge, and how it went."""

    board: Board
    trouble: Perturber
    load_seconds: float
    heal_seconds: float
    is_live: bool
    chains: dict[str, list[bytes]] = field(default_factory=dict)
    stopped: list[str] = field(default_factory=list)
    carried: Report = field(default_factory=lambda: Report(pid=0))


def measure(options: Options, screen: Screen) -> dict[str, object]:
    """Run a network of its own and judge what its clients saw.

    Args:
        options: how much of what.
        screen: hears now and then how far it is.

    Raises:
        PrsmError: the network did not come up, a node ended by itself, or it did not go on.
    """
    check_options(options)
    folder = Path(tempfile.mkdtemp(prefix="prsm-histories-"))
    began = time.monotonic()
    try:
        genesis, played = trio.run(partial(_run, options, folder, screen))
    except BaseExceptionGroup as group:
        known = group.subgroup(PrsmError)
        if known is None or known.exceptions != group.exceptions:
            raise
        raise _first(known) from group
    verdict = check(played.board.history, played.chains, genesis)
    document = _document(options, played, verdict)
    document["seconds"] = round(time.monotonic() - began, 1)
    if options.keep or verdict.violations:
        _save(folder, played)
        document["folder"] = str(folder)
    else:
        shutil.rmtree(folder, ignore_errors=True)
    return document


def _first(group: BaseExceptionGroup[PrsmError]) -> PrsmError:
    inner = group.exceptions[0]
    return _first(inner) if isinstance(inner, BaseExceptionGroup) else inner


def check_options(options: Options) -> None:
    """Refuse what no history can be made with.

    Raises:
        LocalError: which option, and what it may be.
    """
    if not 1 <= options.operations <= 10_000_000:
        raise LocalError(f"{options.operations} operations, at least 1 and at most 10,000,000")
    if not 4 <= options.nodes <= 13:
        raise LocalError(f"{options.nodes} nodes, 4 to 13 share a machine and outlive a fault")
    if not 1 <= options.clients <= CLIENTS_MAX:
        raise LocalError(f"{options.clients} clients, at least 1 and at most {CLIENTS_MAX}")


async def _run(options: Options, folder: Path, screen: Screen) -> tuple[Genesis, _Played]:
    proxy = Proxy.bind(options.nodes, seed=options.seed)
    accounts = [
        bytes(signer_of(options.seed, number).public_key) for number in range(options.clients)
    ]
    network = launch.create(
        folder / "net",
        options.nodes,
        funded=[Allocation(PublicKey(account), BALANCE) for account in accounts],
        rig=launch.Rig(route=proxy.port, own_clocks=True, models=False),
    )
    genesis = from_json(network.genesis.read_bytes())
    doors = [Door(node.home) for node in network.nodes]
    board = Board(genesis, doors, accounts, wanted=options.operations)
    trouble = Perturber(
        network,
        NearLinks(proxy),
        voters=range(options.nodes),
        watches=board.watches,
        dice=random.Random(f"{options.seed} trouble"),
    )
    async with trio.open_nursery() as nursery:
        await nursery.start(proxy.run, [node.port for node in network.nodes])
        try:
            await trio.to_thread.run_sync(network.start)
            for watch in board.watches:
                nursery.start_soon(watch.run)
            nursery.start_soon(_report, board, trouble, screen)
            played = await _load(options, board, trouble)
            await trio.to_thread.run_sync(network.start_missing)
            await _read_all(board)
            height = await settle(doors)
            for node, door in zip(network.nodes, doors, strict=True):
                played.chains[node.name] = await export(door, height)
                played.stopped += await stopped(node.name, door)
            played.carried = await trouble.links.carried()
        finally:
            with trio.CancelScope(shield=True):
                await trouble.heal()
                await trio.to_thread.run_sync(network.stop)
            nursery.cancel_scope.cancel()
    return genesis, played


async def _load(options: Options, board: Board, trouble: Perturber) -> _Played:
    """Clients and faults until enough is answered, then healing and what is still open."""
    began = time.monotonic()
    with trio.CancelScope() as grace:
        async with trio.open_nursery() as clients:
            for number in range(options.clients):
                clients.start_soon(Client(board, number, seed=options.seed).run)
            async with trio.open_nursery() as faults:
                faults.start_soon(_make_trouble, options, trouble)
                with trio.move_on_after(options.seconds):
                    while board.answered < board.wanted or trouble.done.keys() != set(PASSING):  # noqa: ASYNC110 - a look now and then
                        await trio.sleep(LOOK_SECONDS)
                faults.cancel_scope.cancel()
            await trouble.heal()
            board.is_closed = True
            healed = time.monotonic()
            grace.deadline = trio.current_time() + LIVE_SECONDS
    now = time.monotonic()
    return _Played(board, trouble, healed - began, now - healed, is_live=not grace.cancelled_caught)


async def _report(board: Board, trouble: Perturber, screen: Screen) -> None:
    while True:
        await trio.sleep(REPORT_SECONDS)
        rounds = trouble.done.total()
        screen.note(
            f"{board.answered} of {board.wanted} operations, height {board.shown}, {rounds} faults"
        )


async def _make_trouble(options: Options, trouble: Perturber) -> None:
    for each in schedule(options.seed, options.nodes, scale=options.scale):
        await trouble.play(each)


async def _read_all(board: Board) -> None:
    """One last read of every account on every node, not older than anything anybody was told."""
    for node, door in enumerate(board.doors):
        asker = Asker(door)
        for account in (*board.accounts, bytes(TREASURY)):
            read = Read(-1, node, account, board.shown, time.monotonic_ns())
            board.history.reads.append(read)
            params = AccountParams(address_text(account), min_height=board.shown)
            with trio.fail_after(SETTLE_SECONDS):
                found = await asker.call("account_getBalance", params, result=Balance)
            read.balance, read.nonce, read.height = int(found.balance), found.nonce, found.height
            board.note(read)
        asker.close()


def failures(document: dict[str, object]) -> list[str]:
    """Everything in a document that should have held and did not."""
    held = {
        "violations": document["violations"] == 0,
        "not live after healing": document["live"] is True,
        "nodes that vote no more": document["stopped"] == [],
    }
    return [what for what, good in held.items() if not good]


def _document(options: Options, played: _Played, verdict: Verdict) -> dict[str, object]:
    lost = (Fault.LOST_WRITE, Fault.MOVED_WRITE, Fault.DOUBLED_WRITE, Fault.WRONG_EFFECT)
    trouble = played.trouble
    return {
        "seed": options.seed,
        "nodes": options.nodes,
        "clients": options.clients,
        "operations": played.board.answered,
        "tried": verdict.operations,
        "writes_acknowledged": verdict.acknowledged,
        "writes_refused": verdict.refused,
        "writes_unknown": verdict.unknown,
        "writes_unknown_in_chain": verdict.unknown_in_chain,
        "reads": verdict.reads,
        "blocks": verdict.height,
        "violations": len(verdict.violations),
        "lost_acknowledged_writes": verdict.count(*lost),
        "stale_reads": verdict.count(Fault.STALE_READ),
        "supply_change": verdict.supply_change,
        "first_violations": [
            f"{each.fault.value}: {each.what}" for each in verdict.violations[:VIOLATIONS_SHOWN]
        ],
        "live": played.is_live,
        "stopped": played.stopped,
        "faults": {kind.value: trouble.done[kind] for kind in PASSING},
        "chunks_lost": played.carried.chunks_lost,
        "bytes_carried": played.carried.bytes_passed,
        "load_seconds": round(played.load_seconds, 1),
        "heal_seconds": round(played.heal_seconds, 2),
    }


def _save(folder: Path, played: _Played) -> None:
    """Keep the history beside the nodes' folders, for a person to look into."""
    history = played.board.history
    items: list[Write | Read | Count] = [*history.writes, *history.reads, *history.counts]
    with (folder / "history.jsonl").open("wb") as file:
        for item in sorted(items, key=lambda item: item.invoked_ns):
            row = {"op": type(item).__name__.lower(), **asdict(item)}
            file.write(msgspec.json.encode(row) + b"\n")
