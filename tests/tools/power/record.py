"""Record a run: blocks with acknowledged transactions, view changes, new segments, restarts.

What is recorded is what the daemon's own code asks of its disks; notes on the same tape say when
a vote left, when a client was told, and what the peers had heard by then.
"""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Final
from unittest.mock import patch

import trio

from prsm.node.chain import signlog
from prsm.node.chain.chain import ChainConfig, ChainParts, open_chain
from prsm.node.chain.driver import Head
from prsm.node.clock import TrioClock
from prsm.protocol.codec import Record, encode
from prsm.protocol.errors import PrsmError
from prsm.protocol.messages.consensus import SignedMessage, Status
from prsm.protocol.transactions.envelope import decode_transaction
from tests.tools.power.disk import RecordedDisk
from tests.tools.power.peers import Peers
from tests.tools.power.refusal import Refusal
from tests.tools.power.sqlite import Recorder, recorded
from tests.tools.power.tape import Begin, Platter, State, Tape
from tests.tools.power.victim import Line, Network

SEGMENT_BYTES: Final = 24 * 1024  # a new segment every few blocks
LOG_FILES: Final = ("consensus.wal", "signguard")
_STALL_SECONDS: Final = 20.0
_AFTER_REFUSAL: Final = 60  # turns of the network
_WAITING_MAX: Final = 12  # transactions nobody has decided on yet


@dataclass
class Run:
    """One recorded node and what is around it."""

    seed: int
    folder: Path
    tape: Tape = field(default_factory=Tape)
    network: Network = field(init=False)
    peers: Peers = field(init=False)
    dice: Random = field(init=False)
    line: Line = field(init=False)
    votes: int = 0  # that left
    is_cut: bool = False
    stopped: str = ""  # why the last round ended, if it was not its length
    _heard: dict[int, bytes] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.dice = Random(self.seed)
        self.network = Network.make(self.folder, self.dice)
        self.peers = Peers(
            self.network.cluster.genesis, self.network.seeds, self.dice, TrioClock().wall_ms
        )
        self.line = Line(self.network.ids, self._left, self._asked)
        self.peers.tell = self.line.hear

    async def round(self, blocks: int, found: State, refusal: Refusal | None = None) -> None:
        """Start from what a power cut left, and run until the chain is so much longer.

        With a refusal: or until the disk refused, and then a while on; `stopped` says why.
        """
        data = self.folder / "data"
        _put(data, found)
        recorder = _begin(self.tape, found)
        log_state = {name: found[name] for name in found if name not in recorder.numbers}
        disk = RecordedDisk(self.tape, self.dice, log_state)
        lab = self.network.cluster.labs[0]
        config = ChainConfig(
            self.network.cluster.genesis, data, lab.folder / "wallet.key", (lab.consensus_seed,)
        )
        with recorded(recorder), patch.object(signlog, "SEGMENT_BYTES", SEGMENT_BYTES):
            async with (
                open_chain(config, self.line, TrioClock(), disk=disk) as parts,
                trio.open_nursery() as nursery,
            ):
                parts.driver.on_head.append(self._acknowledged)
                await nursery.start(parts.run)
                if refusal is not None:
                    recorder.fail, disk.refuse = refusal.of_ledger, refusal.of_log
                await self._drive(parts, parts.driver.ledger.height + blocks, refusal)
                self.stopped = parts.driver.stopped
                # The power goes here: what the orderly end does is neither on the tape nor heard.
                self.is_cut = True
                self.tape, kept = Tape(files=self.tape.files), self.tape
                recorder.tape = disk.tape = self.tape
                nursery.cancel_scope.cancel()
            self.tape, self.is_cut = kept, False

    async def _drive(self, parts: ChainParts, until: int, refusal: Refusal | None) -> None:
        dice, peers, driver = self.dice, self.peers, parts.driver
        muted_until = 0
        with trio.fail_after(_STALL_SECONDS + until):
            while driver.ledger.height < until and not driver.is_halted:
                height = driver.ledger.height
                if height >= muted_until:
                    peers.muted = dice.choice((None, 1, 2, 3))
                    muted_until = height + dice.randint(1, 6)
                await self._stir(parts)
        if refusal is None:
            assert not driver.stopped, driver.stopped
        elif driver.is_halted:
            said, peers.muted = self.votes, None
            for _ in range(_AFTER_REFUSAL):
                await self._stir(parts)
            assert self.votes == said, "a vote after the disk refused"
        assert not self.line.penalties, self.line.penalties

    async def _stir(self, parts: ChainParts) -> None:
        dice, peers = self.dice, self.peers
        if dice.random() < 0.4:
            self._pay(parts, dice.randint(1, 8))
        if dice.random() < 0.1:
            peers.greet()
        # A slow moment: the peers give up on the view.
        peers.advance(900 if dice.random() < 0.02 else 5)
        peers.pump(dice.randint(1, 40))
        await trio.sleep(0.001)

    def _pay(self, parts: ChainParts, count: int) -> None:
        if self.peers.waiting > _WAITING_MAX:
            return
        for _ in range(count):
            raw = self.network.transfer()
            self.peers.submit(raw)
            with suppress(PrsmError):  # after a restart it lacks the nonces before
                parts.driver.hear_transaction(raw, decode_transaction(raw))

    def recording(self) -> "Recording":
        """What was recorded so far."""
        longest = max(self.peers.all, key=lambda peer: peer.ledger.height)
        names = {
            height: item.certificate.block_hash
            for height, item in enumerate(longest.blocks, start=1)
        }
        return Recording(self.tape, self.network, self.peers, names)

    async def _asked(self, ask: Record) -> Record:
        await trio.lowlevel.checkpoint()
        return self.peers.answer(ask)

    def _left(self, to: int, message: Record) -> None:
        if to != 1 or self.is_cut:
            return  # a broadcast is noted once, and the peers hear it together
        if isinstance(message, SignedMessage):
            self.votes += 1
            self.tape.note("sent", encode(message))
            self.peers.hear(message)
            self._note_heard()
        elif isinstance(message, Status):
            self.peers.hear(message)

    def _note_heard(self) -> None:
        for index in (1, 2, 3):
            raw = encode(self.peers.status(index))
            if self._heard.get(index) != raw:
                self._heard[index] = raw
                self.tape.note("heard", bytes((index,)) + raw)

    def _acknowledged(self, head: Head) -> None:
        height = head.block.header.height.to_bytes(8, "big")
        self.tape.note("acked", height + b"".join(head.outcome.tx_ids))
        self._note_heard()


@dataclass(frozen=True)
class Recording:
    """What the harness works with: tape, network, and the chain the peers ended with."""

    tape: Tape
    network: Network
    peers: Peers
    names: dict[int, bytes]  # block hash of each height the peers have


def record(seed: int, *, rounds: int, blocks: int) -> Recording:
    """Run a node through some starts; each begins with what a power cut left of the one before.

    Args:
        seed: of the transactions, the peers' moods and the cuts between the rounds.
        rounds: starts of the node.
        blocks: that the chain grows by in each of them.
    """
    with _scratch() as folder:
        run = Run(seed, folder)
        found: State = {}
        for _ in range(rounds):
            trio.run(run.round, blocks, found)
            platter = Platter()
            for operation in run.tape.operations:
                platter.play(operation)
            found = platter.settle(run.dice)
        return run.recording()


def record_refusal(seed: int, refusal: Refusal, *, blocks: int) -> tuple[Recording, str]:
    """Run a node until its disk refuses; what was recorded, and why it stopped."""
    with _scratch() as folder:
        run = Run(seed, folder)
        trio.run(run.round, blocks, {}, refusal)
        return run.recording(), run.stopped


@contextmanager
def _scratch() -> Iterator[Path]:
    """A folder in memory where the system has one."""
    shared = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=shared if shared.is_dir() else None) as name:
        yield Path(name)


def _put(data: Path, found: State) -> None:
    data.mkdir(mode=0o700, exist_ok=True)
    for path in data.glob("ledger.db*"):
        path.unlink()
    for name, (_, content) in found.items():
        if name not in LOG_FILES and not name.startswith(LOG_FILES):
            (data / name).write_bytes(content)


def _begin(tape: Tape, found: State) -> Recorder:
    """After a cut the disk is what it is: all of it durable, under the numbers it had."""
    files = tuple((name, number, content) for name, (number, content) in found.items())
    tape.add(Begin(files))
    numbers = {name: number for name, number, _ in files if not name.startswith(LOG_FILES)}
    return Recorder(tape, numbers)
