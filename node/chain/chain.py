"""One node's part in agreement, opened from its folder: ledger, replica, driver, sync, wallet.

Knows: in which order these are opened, run and closed. Must not know: HTTP, models, work.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import trio

from prsm.consensus.ledger.apply import Ledger
from prsm.consensus.ledger.genesis import genesis_changes
from prsm.consensus.ledger.outcome import LedgerTip
from prsm.consensus.pbft import replica
from prsm.consensus.pbft.config import Config
from prsm.consensus.pbft.forgotten import shown_by
from prsm.consensus.pbft.inbox import is_late
from prsm.consensus.pbft.state import State
from prsm.consensus.pbft.tip import Tip
from prsm.node.chain.admission import Admission, Rules, Seen
from prsm.node.chain.driver import Driver, Hands
from prsm.node.chain.history import ledger_tip_of, note_first_epoch, tip_of
from prsm.node.chain.mempool import Accounts, Mempool
from prsm.node.chain.notices import Notices
from prsm.node.chain.pull import Pull
from prsm.node.chain.signfiles import Opened, open_signfiles
from prsm.node.chain.signlog import SignLog
from prsm.node.chain.snapshots.evidence import Shown
from prsm.node.chain.snapshots.keeper import SnapshotRules, Snapshots
from prsm.node.chain.sync import Sync
from prsm.node.chain.wallet import Wallet
from prsm.node.clock import Clock
from prsm.node.net.interface import Network
from prsm.node.supervise import Supervisor
from prsm.node.telemetry import logs
from prsm.protocol.errors import WireError
from prsm.protocol.genesis import BadGenesis, Genesis
from prsm.storage.database import quarantine
from prsm.storage.disk import Disk, PosixDisk
from prsm.storage.errors import Corrupt
from prsm.storage.ledger import LedgerStore, StoredBlock
from prsm.storage.snapshots import SnapshotFiles

log = logs.get("chain")

GENESIS: Final = "genesis"  # note in the ledger file: digest of the document it began with


@dataclass(frozen=True, slots=True)
class ChainConfig:
    """Where one node's chain lives, and who it is there."""

    genesis: Genesis
    data: Path  # holds ledger.db, consensus.wal, signguard
    wallet: Path  # encrypted key file
    consensus_seeds: tuple[bytes, ...]  # of every key it may vote with; none: follows
    snapshots: SnapshotRules = field(default_factory=SnapshotRules)


@dataclass(frozen=True, slots=True)
class ChainParts:
    """What runs; `run` runs all of it."""

    driver: Driver
    admission: Admission
    sync: Sync
    snapshots: Snapshots
    pull: Pull
    wallet: Wallet
    keepers: dict[str, Supervisor] = field(
        default_factory=lambda: {
            name: Supervisor(name) for name in ("admission", "sync", "snapshots", "pull", "wallet")
        }
    )

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Take part until cancelled."""
        keepers = self.keepers
        async with trio.open_nursery() as nursery:
            await nursery.start(keepers["admission"].run, self.admission.run)
            await nursery.start(keepers["sync"].run, self.sync.run)
            await nursery.start(keepers["snapshots"].run, self.snapshots.run)
            await nursery.start(keepers["pull"].run, self.pull.run)
            await nursery.start(keepers["wallet"].run, self.wallet.run)
            await nursery.start(self.driver.run)
            task_status.started()


@asynccontextmanager
async def open_chain(
    config: ChainConfig, network: Network, clock: Clock, *, disk: Disk | None = None
) -> AsyncIterator[ChainParts]:
    """Open the folder's ledger and log and join them to a network that does not run yet.

    Args:
        config: which folder, whose keys.
        network: not running.
        clock: of the node.
        disk: of the consensus log; the real one if None.

    Raises:
        BadGenesis: the folder's ledger began with another document.
        Conflict: another process has the folder.
        Corrupt: the ledger contradicts itself, and the new one too.
        StoreUnavailable: the disk refused, or a newer version wrote the data.
    """
    seen = Seen()
    store, ledger, tip, damage = await _open_ledger(config, seen)
    opened: Opened | None = None
    try:
        if config.consensus_seeds:
            opened = open_signfiles(
                disk or PosixDisk(), config.data, ledger_height=tip.height, ledger_lost=damage
            )
            if opened.observer is not None:
                log.error("observer: this node signs nothing", why=opened.observer)
        yield _join(config, network, clock, _Found(store, ledger, tip, seen, opened))
    finally:
        if opened is not None:
            opened.files.close()
        with trio.CancelScope(shield=True):
            await store.close()


async def _open_ledger(
    config: ChainConfig, seen: Seen
) -> tuple[LedgerStore, Ledger, Tip, str | None]:
    """The ledger of the folder, or an empty one in the place of a damaged one, and why."""
    path = config.data / "ledger.db"
    try:
        return *await _open_sound(path, config.genesis, seen), None
    except Corrupt as error:
        aside = quarantine(path)
        log.error(  # noqa: TRY400 - what is damaged is in the text
            "damaged ledger put aside; blocks come from peers", why=error.what, aside=str(aside)
        )
        damage = f"the ledger was damaged: {error.what}"
        return *await _open_sound(path, config.genesis, seen), damage


async def _open_sound(path: Path, genesis: Genesis, seen: Seen) -> tuple[LedgerStore, Ledger, Tip]:
    store = await LedgerStore.open(path)
    try:
        return store, *await read_ledger(store, genesis, seen=seen)
    except (AssertionError, WireError) as error:  # the state in it does not hold
        await store.close()  # noqa: ASYNC120 - close() shields itself
        raise Corrupt(f"the ledger contradicts itself: {error}") from error
    except BaseException:
        await store.close()  # noqa: ASYNC102 - close() shields itself
        raise


async def read_ledger(
    store: LedgerStore, genesis: Genesis, *, seen: Seen | None = None
) -> tuple[Ledger, Tip]:
    """The state machine as a ledger file holds it; a file without blocks gets the first state.

    Args:
        store: open.
        genesis: of the network; noted in a new file, compared in another.
        seen: transactions that are checked already; none if None.

    Raises:
        BadGenesis: the file began with another document.
        Corrupt: the file contradicts itself.
        StoreUnavailable, Full: the disk refused.
    """
    last = await _last_block(store)
    await _check_genesis(store, genesis, is_new=last is None)
    state = await store.load_state() if last else {}
    if last is None:  # again after a start that saw no block: the same entries
        await store.put_state(genesis_changes(genesis))
    await note_first_epoch(store, genesis)
    tip = None if last is None else ledger_tip_of(last)
    # Not `seen or Seen()`: one that has seen nothing yet is false.
    ledger = _ledger(genesis, state, tip, Seen() if seen is None else seen)
    return ledger, tip_of(ledger, last)


def _ledger(
    genesis: Genesis, state: dict[bytes, bytes], tip: LedgerTip | None, checked: Seen
) -> Ledger:
    ledger = Ledger(
        genesis,
        state,
        verifier=checked.verifier,
        tip=tip,
        known=checked,
        recall=checked.recall,
    )
    # What a judge had to check, because the block was faster than the transaction, the door need
    # not check again.
    ledger.admission.remember = checked.keep
    return ledger


@dataclass(frozen=True, slots=True)
class _Found:
    store: LedgerStore
    ledger: Ledger
    tip: Tip
    seen: Seen
    opened: Opened | None


def _join(config: ChainConfig, network: Network, clock: Clock, found: _Found) -> ChainParts:
    verifier, genesis, ledger = found.seen.verifier, config.genesis, found.ledger
    signers = [verifier.signer(seed) for seed in config.consensus_seeds]
    opened = found.opened
    machine = replica.start(
        Config.of(genesis, signers=signers, verifier=verifier),
        found.tip,
        opened.records if opened else (),
        opened.observer if opened else None,
        voted=opened.spoken_of if opened else None,
    )
    mempool = Mempool(Accounts(ledger.view.nonce, ledger.view.account))
    signlog = SignLog(opened.files) if opened else None
    driver = Driver(machine, Hands(ledger, found.store, signlog, network, mempool, clock))
    admission = Admission(
        network,
        rules=Rules(genesis.chain_id, verifier, ledger.admission.check, driver.validators_of),
        on_vote=driver.hear_vote,
        on_transaction=driver.hear_transaction,
        known=found.seen,
    )
    driver.on_head.append(lambda head: found.seen.settle(head.outcome.tx_ids))
    notices = Notices(network, driver.on_answer)
    driver.herald.is_client = notices.is_watching
    admission.on_taken, admission.on_refused = notices.taken, notices.refused
    admission.votes.is_late = lambda message: is_late(machine, message)
    # At twice what can be agreed on, checking what is refused later would take half of the time.
    admission.room = lambda: driver.pace.queue - len(driver.mempool)
    wallet = Wallet(config.wallet, genesis=genesis, driver=driver, admission=admission)
    sync, snapshots = Sync(driver), _snapshots(config, driver, found, signlog)
    sync.is_held = lambda: snapshots.taker.is_wanted
    return ChainParts(driver, admission, sync, snapshots, Pull(driver, admission), wallet)


def _snapshots(
    config: ChainConfig, driver: Driver, found: _Found, signlog: SignLog | None
) -> Snapshots:
    def rebuild(state: dict[bytes, bytes], tip: LedgerTip) -> Ledger:
        return _ledger(config.genesis, state, tip, found.seen)

    async def distrust_log(certificates: Shown) -> str | None:
        return None if signlog is None else await distrust(signlog, driver.state, certificates)

    files = SnapshotFiles(config.data / "snapshots")
    return Snapshots(driver, files, config.snapshots, rebuild=rebuild, distrust_log=distrust_log)


async def distrust(signlog: SignLog, state: State, certificates: Shown) -> str | None:
    """Put the guard aside if the log lacks a past, or a vote that a proven state shows.

    The state takes the place of the blocks whose certificates would have shown that vote.

    Args:
        signlog: of this node.
        state: of its replica.
        certificates: that hold, of the state that is about to be installed.

    Returns:
        Why nothing may be signed from here on, None if it may.

    Raises:
        StoreUnavailable, Full: the disk refused; part of it is done, so nothing may be signed.
    """
    for certificate, validators in certificates:
        if reason := shown_by(state, certificate, validators):
            await signlog.forbid(reason)
            return reason
    return await signlog.forbid_if_blank()


async def _check_genesis(store: LedgerStore, genesis: Genesis, *, is_new: bool) -> None:
    noted = await store.get_meta(GENESIS)
    if noted is None:
        if not is_new:
            raise Corrupt("the ledger has blocks but no note of its genesis")
        await store.put_meta(GENESIS, genesis.digest)
    elif noted != genesis.digest:
        raise BadGenesis(
            f"genesis {genesis.digest.hex()[:16]}, but the ledger in this folder began with "
            f"{noted.hex()[:16]}",
            hint="put the first genesis.json back, or start with an empty data folder",
        )


async def _last_block(store: LedgerStore) -> StoredBlock | None:
    tip = await store.tip()
    return None if tip is None else await store.block(tip[0])
