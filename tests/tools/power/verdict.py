"""What a node makes of a disk after a power cut: opened by the daemon's own code, and judged.

`Promises` is what had left by then: votes, acknowledgements, and what the peers had heard.
"""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Final

from prsm.consensus.ledger.apply import Ledger
from prsm.consensus.pbft import replica
from prsm.consensus.pbft.config import Config
from prsm.consensus.pbft.events import Heard
from prsm.consensus.pbft.opened import Opened, open_message
from prsm.consensus.pbft.records import Locked, Memory
from prsm.consensus.pbft.state import State as Replica
from prsm.consensus.pbft.tip import Tip
from prsm.consensus.pbft.transitions import Phase
from prsm.node.archive.replay import Replay
from prsm.node.chain.chain import read_ledger
from prsm.node.chain.signfiles import open_signfiles
from prsm.protocol.codec import decode
from prsm.protocol.ed25519 import Ed25519Signer, Ed25519Verifier
from prsm.protocol.errors import PrsmError
from prsm.protocol.limits import BULK_FRAME_BYTES_MAX
from prsm.protocol.messages.consensus import SignedMessage, Status
from prsm.protocol.signing import Kind
from prsm.storage.errors import Corrupt
from prsm.storage.ledger import LedgerStore
from tests.tools.power.disk import RecordedDisk
from tests.tools.power.record import LOG_FILES, Recording
from tests.tools.power.tape import Note, State, Tape

DATA: Final = Path("data")


@dataclass(slots=True)
class Promises:
    """What had left the node."""

    acked: dict[bytes, int] = field(default_factory=dict)  # transaction -> height
    votes: list[Opened] = field(default_factory=list)
    heard: dict[int, Status] = field(default_factory=dict)  # what each peer says since

    def note(self, note: Note) -> None:
        """Take one note of the tape."""
        match note.what:
            case "acked":
                height = int.from_bytes(note.raw[:8], "big")
                for start in range(8, len(note.raw), 32):
                    self.acked[note.raw[start : start + 32]] = height
            case "sent":
                message = decode(note.raw, SignedMessage, size_max=BULK_FRAME_BYTES_MAX)
                self.votes.append(open_message(message))
            case _:
                status = decode(note.raw[1:], Status, size_max=BULK_FRAME_BYTES_MAX)
                self.heard[note.raw[0]] = status


@dataclass(frozen=True, slots=True)
class Found:
    """What a start found.

    Attributes:
        refused: why the ledger did not open.
        observer: why nothing is signed, by log and guard alone.
        lost: acknowledged transactions that are not there.
        wrong: what of the ledger contradicts the chain, though it opened.
        forgotten: votes that left and do not bind any more.
        state: the replica, if the ledger opened.
    """

    refused: str | None
    observer: str | None
    lost: int
    wrong: str
    forgotten: tuple[Opened, ...]
    height: int
    state: Replica | None
    ledger: Ledger | None


async def start(
    recording: Recording, disk: State, promises: Promises, folder: Path, tape: Tape | None = None
) -> Found:
    """Open the ledger and the log that a power cut left, and compare them with what was promised.

    Args:
        recording: of the run.
        disk: names and contents.
        promises: what had left before the cut.
        folder: for the ledger's files; emptied.
        tape: records what opening the log does to its disk.
    """
    _put(disk, folder)
    genesis = recording.network.cluster.genesis
    try:
        store = await LedgerStore.open(folder / "ledger.db")
    except Corrupt as error:
        return _refused(error.what)
    try:
        ledger, tip = await read_ledger(store, genesis)
        places = await store._database.read(
            lambda connection: dict(connection.execute("SELECT id, height FROM tx"))
        )
        blocks = await store._database.read(
            lambda connection: dict(connection.execute("SELECT height, hash FROM block"))
        )
    except (PrsmError, AssertionError, ValueError, KeyError) as error:
        return _refused(f"{type(error).__name__}: {error}")
    finally:
        await store.close()
    lost = sum(places.get(tx) != height for tx, height in promises.acked.items())
    wrong = _wrong(recording, ledger, blocks)
    log = {name: disk[name] for name in disk if name.startswith(LOG_FILES)}
    opened = open_signfiles(
        RecordedDisk(tape or Tape(), Random(0), log), DATA, ledger_height=tip.height
    )
    state = make_replica(recording, tip, opened.records, opened.observer)
    forgotten = tuple(vote for vote in promises.votes if not binds(state, vote))
    return Found(None, opened.observer, lost, wrong, forgotten, tip.height, state, ledger)


def make_replica(
    recording: Recording, tip: Tip, records: Sequence[bytes], observer: str | None
) -> Replica:
    """The core as the daemon starts it."""
    signer = Ed25519Signer(recording.network.seeds[0])
    genesis = recording.network.cluster.genesis
    config = Config.of(genesis, signers=(signer,), verifier=Ed25519Verifier())
    return replica.start(config, tip, records, observer)


def binds(state: Replica, vote: Opened) -> bool:
    """Does a vote that left still forbid every vote that contradicts it?"""
    message = vote.message
    height, view = message.height, message.view
    if height <= state.low:
        return True
    memory = _memory(state, height)
    if memory is None:
        return False
    locked_view = -1 if memory.locked is None else memory.locked.view
    match message.kind:
        case Kind.VIEW_CHANGE:
            return memory.view >= view
        case Kind.COMMIT if locked_view < view:
            return False  # a hidden prepare
        case Kind.NEW_VIEW:
            return memory.view > view or (memory.view == view and memory.active)
        case kind:
            return memory.view > view or memory.voted.get((kind, view)) == vote.digest


def _memory(state: Replica, height: int) -> Memory | None:
    """What binds at a height: of the present one the replica has made it its own."""
    instance = state.instance
    if height != instance.height:
        return state.memories.get(height)
    memory = Memory(instance.view, instance.phase is not Phase.CHANGING, voted=instance.voted)
    prepared = instance.locked
    if prepared is not None:
        epoch = state.tip.epoch.number
        memory.locked = Locked(epoch, height, prepared.view, prepared.certificate, None)
    return memory


def hear(recording: Recording, state: Replica, promises: Promises, peers: Sequence[int]) -> None:
    """Let peers tell where they stand, as many as a validator waits for before it signs."""
    for peer in peers:
        status = promises.heard.get(peer)
        if status is not None:
            replica.step(state, Heard(recording.network.ids[peer], status), 1_000)


def is_noticed(found: Found, promises: Promises) -> bool:
    """After `hear`: does the node know of everything that its disk lost?

    A vote that binds no more must make an observer. A block that is missing must be known to be
    decided: then it is fetched, and its height is never voted on; or it is the one this node is
    locked on, which the peers decide with the COMMIT they have. A wrong state contradicts the next
    header, so nothing is signed on it.
    """
    state = found.state
    if state is None:
        return True
    if state.observer is not None:
        return True
    if found.forgotten:
        return False
    ahead = max((status.height for status in promises.heard.values()), default=0)
    is_behind = found.height < max(state.low, ahead)
    is_locked = state.instance.locked is not None
    if is_locked and max(promises.acked.values(), default=0) <= found.height + 1:
        return not found.wrong
    return is_behind or not (found.lost or found.wrong)


def is_known_limit(found: Found, promises: Promises) -> bool:
    """Is what went unnoticed one of the two things that docs/testing.md says are not noticed?

    A state that is wrong and adds up shows at the next header. A vote for a height that every peer
    has left behind may be of an epoch whose set they have forgotten, so none of them noted it.
    """
    if found.wrong and not found.forgotten:
        return True
    passed = min((status.height for status in promises.heard.values()), default=0)
    return bool(found.forgotten) and all(v.message.height <= passed for v in found.forgotten)


def resync(recording: Recording, found: Found) -> str:
    """Follow the peers' blocks from where the ledger stands; what goes wrong, or nothing."""
    genesis = recording.network.cluster.genesis
    chain = max(recording.peers.all, key=lambda peer: peer.ledger.height)
    ledger = found.ledger
    if ledger is None or found.state is None or found.wrong:
        ledger = Ledger(genesis, {}, verifier=Ed25519Verifier(), tip=None)
        tip = Tip.genesis(genesis, state_root=ledger.state_root, receipts_root=ledger.receipts_root)
    else:
        tip = found.state.tip
    replay = Replay(ledger, tip)
    for item in chain.blocks[ledger.height :]:
        try:
            _, outcome = replay.judge(item)
        except PrsmError as error:
            return error.what
        replay.commit(item, outcome)
    same = replay.ledger.state_root == chain.ledger.state_root
    return "" if same else "another state root than the peers have"


def _put(disk: State, folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o700)
    for name, (_, content) in disk.items():
        if not name.startswith(LOG_FILES):
            (folder / name).write_bytes(content)


def _wrong(recording: Recording, ledger: Ledger, blocks: dict[int, bytes]) -> str:
    for height, digest in blocks.items():
        if recording.names.get(height) != digest:
            return f"block {height} is another one"
    chain = max(recording.peers.all, key=lambda peer: peer.ledger.height)
    height = ledger.height
    expected = (
        chain.blocks[height].block.header.state_root
        if height < len(chain.blocks)
        else chain.ledger.state_root
    )
    return "" if ledger.state_root == expected else f"the state at height {height} is another one"


def _refused(why: str) -> Found:
    return Found(why, None, 0, "", (), 0, None, None)
