"""The composition root: opens one node's rooms, joins them, and stops them in order.

Knows: every room by its constructor, nothing of what it does. One nursery holds what runs;
stopping closes the door first, then work, then agreement, then the network.
"""

import gc
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager

import trio

from prsm.node.chain.chain import ChainConfig, open_chain
from prsm.node.chain.driver import Head
from prsm.node.chain.mended import Mended
from prsm.node.chain.snapshots.keeper import SnapshotRules
from prsm.node.config.schema import Config
from prsm.node.entrance import open_entrance
from prsm.node.hardening import protect_process
from prsm.node.home import Home
from prsm.node.inference.drain import DRAIN_MORE_S, Drain
from prsm.node.keys import load_network_key, voting_seeds
from prsm.node.memory import keep_compact, keep_giving_back
from prsm.node.net.bans import BanFile
from prsm.node.net.budgets import Limits, StorageLimits
from prsm.node.net.entry import EntryRules
from prsm.node.net.handshake import ChainIdentity
from prsm.node.net.host import Libp2pTransport
from prsm.node.net.network import PeerNetwork
from prsm.node.net.reach import open_reach
from prsm.node.supervise import Supervisor
from prsm.node.telemetry import logs, metrics, traces
from prsm.node.version import VERSION
from prsm.node.work.workshop import Opened, Start, make_workshop, start_workshop
from prsm.protocol.genesis import BadGenesis, Genesis, from_json
from prsm.protocol.ids import PeerId
from prsm.storage.diskguard import DiskGuard
from prsm.storage.keystore import load_seed
from prsm.storage.store.model_store import ModelStore

log = logs.get("daemon")


async def run_daemon(
    start: Start, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> bool:
    """Run one node until SIGTERM, SIGINT, `node_stop` or cancellation.

    Returns:
        Whether to run it again: its disk had refused a write and takes them now.

    Raises:
        LocalError: a missing or locked home, wrong keys, a taken port: before anything runs.
    """
    protect_process()
    keep_compact()
    metrics.begin(metrics.Metrics())
    start.home.check()
    if start.config.metrics.otlp:
        name = start.config.node.name
        recorded = traces.open_traces(start.config.metrics.otlp, node=name, version=VERSION)
        traces.begin(recorded)
        try:
            return await _run_home(start, task_status)
        finally:
            with trio.CancelScope(shield=True), trio.move_on_after(traces.CLOSE_MS / 1000):
                await trio.to_thread.run_sync(recorded.close, abandon_on_cancel=True)
    return await _run_home(start, task_status)


async def _run_home(start: Start, task_status: trio.TaskStatus[None]) -> bool:
    with start.home.hold():
        genesis = _read_genesis(start.home)
        net = start.config.net
        psk = load_network_key(start.home.root / net.psk_file) if net.psk_file else None
        transport = Libp2pTransport(load_seed(start.home.node_key), listen=net.listen, psk=psk)
        identity = ChainIdentity(genesis.chain_id, genesis.digest, agent=f"prsm/{VERSION}")
        network = PeerNetwork(
            transport,
            identity,
            clock=start.clock,
            bans=BanFile(start.home.bans),
            limits=_limits(start.config),
            memory_bytes=start.config.net.memory_bytes,
        )
        network.admit(EntryRules(frozenset(map(PeerId, net.trusted)), net.max_peers))
        reach = open_reach(network, transport, net, start.clock)
        keep = start.config.chain
        config = ChainConfig(
            genesis=genesis,
            data=start.home.data,
            wallet=start.home.wallet_key("default"),
            consensus_seeds=voting_seeds(start.home, is_voting=start.config.consensus.validator),
            snapshots=SnapshotRules(every=keep.snapshot_every, prune=keep.prune),
        )
        async with open_chain(config, start.around(start.home, network), start.clock) as chain:
            if start.password is not None:
                await chain.wallet.unlock(start.password)
            guard = DiskGuard(start.home.data)
            quota = start.config.storage.quota_bytes
            store = await ModelStore.open(start.home.blocks, quota=quota, guard=guard)
            try:
                ready = Opened(start, genesis, network, reach, chain, store, guard)
                again = await _run(ready, task_status)
            finally:
                with trio.CancelScope(shield=True):
                    await store.close()
    return again


def _limits(config: Config) -> Limits:
    upload, download = config.net.limits
    return Limits(upload, download, StorageLimits(*config.storage.limits))


def _read_genesis(home: Home) -> Genesis:
    try:
        raw = home.genesis.read_bytes()
    except OSError as error:
        raise BadGenesis(
            f"{home.genesis} cannot be read: {error.strerror}",
            hint="put the network's genesis.json there",
        ) from error
    return from_json(raw)


async def _run(opened: Opened, task_status: trio.TaskStatus[None]) -> bool:
    """Start from the ground up, stop from the roof down; is it to be run again?"""
    stop, at_once = trio.Event(), trio.Event()
    work, start, chain = make_workshop(opened), opened.start, opened.chain
    async with AsyncExitStack() as floors:
        # The last one entered is cancelled first.
        ground = await floors.enter_async_context(_floor())

        def end() -> None:
            """Stop; the second time without waiting for what is held for others."""
            (at_once if stop.is_set() else stop).set()

        await ground.start(_wait_signal, end)
        _trust_validators(opened)
        await work.models.load()
        await ground.start(opened.network.run)
        await ground.start(Supervisor("reach").run, opened.reach.run)
        agreement = await floors.enter_async_context(_floor())
        await agreement.start(chain.run)
        await agreement.start(work.finding.run)
        labour = await floors.enter_async_context(_floor())
        await start_workshop(work, labour)
        roof = await floors.enter_async_context(_floor())
        await open_entrance(opened, work, roof, end)
        disk = Mended(chain.driver, start.home.data, stop)
        roof.start_soon(disk.run)
        gc.collect()
        gc.freeze()  # what is here now stays: no collection walks over it again
        roof.start_soon(keep_giving_back)
        task_status.started()
        ledger = chain.driver.ledger
        log.info("node is up", height=ledger.height)
        start.notifier.tell("READY=1", f"STATUS=height {ledger.height}")
        roof.start_soon(start.notifier.beat, lambda: f"height {chain.driver.ledger.height}")
        await stop.wait()
        start.notifier.tell("STOPPING=1")
        log.info("stopping")
        if work.hands is not None:
            await _drained(work.hands.drain, start.config.worker.drain_s, at_once)
    return disk.is_mended


async def _drained(drain: Drain, grace_s: float, at_once: trio.Event) -> None:
    """Finish what is held for others while everything runs, for so long, or until told again."""

    async def until(wait: Callable[[], Awaitable[None]], scope: trio.CancelScope) -> None:
        await wait()
        scope.cancel()

    drain.begin(grace_s)
    with trio.move_on_after(grace_s + DRAIN_MORE_S):
        async with trio.open_nursery() as waiting:
            for wait in (drain.wait_over, at_once.wait):
                waiting.start_soon(until, wait, waiting.cancel_scope)


@asynccontextmanager
async def _floor() -> AsyncIterator[trio.Nursery]:
    """A nursery that is cancelled when the stack leaves it."""
    async with trio.open_nursery() as nursery:
        try:
            yield nursery
        finally:
            nursery.cancel_scope.cancel()


def _trust_validators(opened: Opened) -> None:
    """Give the members of this epoch and the next their budgets, and again with each block."""
    driver = opened.chain.driver

    def tell(_head: Head | None = None) -> None:
        sets = (driver.validators, driver.ledger.epoch.following)
        opened.network.trust([PeerId(v.peer_id) for each in sets for v in each.validators])

    driver.on_head.append(tell)
    tell()


async def _wait_signal(end: Callable[[], None], *, task_status: trio.TaskStatus[None]) -> None:
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        task_status.started()
        for _ in range(2):  # a third one has the system's meaning: no process outlives it
            await anext(signals)
            end()
