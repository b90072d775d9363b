"""The process that is killed: the daemon's chain part on real files, with a fuse.

The fuse names a moment (a record kind and a stage of writing it, a stage of the ledger's commit, of
a segment's switch); there the process sends itself SIGKILL. Its parent holds the other end of a
socket. Knows: `node/chain`. Must not know: what the parent does with what it hears.
"""

import os
import signal
import socket
import warnings
from collections import deque
from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from typing import Final
from unittest.mock import patch

import trio
from typing_extensions import override

from prsm.consensus.pbft.records import Voted, unpack
from prsm.node.chain import signlog
from prsm.node.chain.chain import ChainConfig, open_chain
from prsm.node.chain.driver import Driver, Head
from prsm.node.chain.signfiles import SignFiles
from prsm.node.clock import TrioClock
from prsm.protocol.codec import Record
from prsm.protocol.errors import PrsmError
from prsm.protocol.ids import PeerId
from prsm.protocol.messages.consensus import SignedMessage
from prsm.protocol.messages.sync import GotBlock, GotBlocks
from prsm.protocol.transactions.envelope import decode_transaction
from prsm.storage import ledger as ledger_module
from prsm.storage.disk import DiskFile, PosixDisk
from prsm.storage.ledger import LedgerStore
from tests.tools.power import wire
from tests.tools.power.victim import Line

RECORDS: Final = ("Voted PROPOSE", "Held", "Voted PREPARE", "Locked", "Left", "Entered", "LowMark")
RECORD_STAGES: Final = (
    "before write",
    "half written",
    "written",
    "synced",
    "guard half written",
    "guard written",
    "one peer told",
)
COMMIT_STAGES: Final = ("before", "inside the transaction", "durable")
SEGMENT_STAGES: Final = ("written", "renamed", "folder synced")
SEGMENT_BYTES: Final = 24 * 1024


@dataclass(slots=True)
class Fuse:
    """Where the process ends: at the n-th time of a moment; never if there is none."""

    what: str = ""
    stage: str = ""
    times: int = 1
    lit: bool = False  # the record is being written now

    def reach(self, what: str, stage: str) -> None:
        """Die if this is the moment."""
        if self.is_at(what, stage):
            self.burn()

    def is_at(self, what: str, stage: str) -> bool:
        """Is this the moment, and the last of its times?"""
        if (self.what, self.stage) != (what, stage):
            return False
        self.times -= 1
        return self.times <= 0

    def light(self, records: Sequence[bytes]) -> None:
        """A turn's records are about to be written."""
        if self.stage in RECORD_STAGES and any(kind_of(raw) == self.what for raw in records):
            self.times -= 1
            self.lit = self.times <= 0

    def at(self, stage: str) -> bool:
        """Is the record being written, and is it at this stage?"""
        return self.lit and self.stage == stage

    @staticmethod
    def burn() -> None:
        """Die as the system kills: nothing is flushed, closed or told."""
        os.kill(os.getpid(), signal.SIGKILL)


def kind_of(raw: bytes) -> str:
    """Name of a log record's kind."""
    record = unpack(raw)
    return f"Voted {record.kind.name}" if isinstance(record, Voted) else type(record).__name__


class FusedDisk(PosixDisk):
    """The real disk; the process may die between or inside its operations."""

    def __init__(self, fuse: Fuse) -> None:
        self._fuse = fuse

    @override
    def open(self, path: str) -> DiskFile:
        """Open an existing file."""
        return FusedFile(super().open(path), path, self._fuse)

    @override
    def create(self, path: str) -> DiskFile:
        """Make an empty file."""
        return FusedFile(super().create(path), path, self._fuse)

    @override
    def rename(self, old: str, new: str) -> None:
        """Give a file another name."""
        if old.endswith("consensus.wal.new"):
            self._fuse.reach("segment", "written")
        super().rename(old, new)
        if old.endswith("consensus.wal.new"):
            self._fuse.reach("segment", "renamed")

    @override
    def sync_folder(self, path: str) -> None:
        """Make names durable."""
        super().sync_folder(path)
        if path.endswith("consensus.wal"):
            self._fuse.reach("segment", "folder synced")


class FusedFile:
    """An open file of it."""

    def __init__(self, real: DiskFile, path: str, fuse: Fuse) -> None:
        self._real = real
        self._is_guard = "signguard" in path
        self._fuse = fuse

    @property
    def inode(self) -> int:
        """Number of the file itself."""
        return self._real.inode

    def size(self) -> int:
        """Bytes in the file."""
        return self._real.size()

    def read(self, offset: int, count: int) -> bytes:
        """Return up to `count` bytes from `offset`."""
        return self._real.read(offset, count)

    def pwrite(self, offset: int, data: bytes) -> None:
        """Write, or die before it or in the middle of it."""
        half = "guard half written" if self._is_guard else "half written"
        if not self._is_guard and self._fuse.at("before write"):
            self._fuse.burn()
        if self._fuse.at(half):
            self._real.pwrite(offset, data[: len(data) // 2])
            self._fuse.burn()
        self._real.pwrite(offset, data)
        if self._fuse.at("guard written" if self._is_guard else "written"):
            self._fuse.burn()

    def truncate(self, size: int) -> None:
        """Cut the file."""
        self._real.truncate(size)

    def fdatasync(self) -> None:
        """Sync, or die behind it."""
        self._real.fdatasync()
        if not self._is_guard and self._fuse.at("synced"):
            self._fuse.burn()

    def lock_nowait(self) -> bool:
        """Take the file for this process."""
        return self._real.lock_nowait()

    def close(self) -> None:
        """Give the file back."""
        self._real.close()


@dataclass
class Mortal:
    """One life of the process."""

    config: ChainConfig
    ids: list[PeerId]
    end: socket.socket
    fuse: Fuse

    def run(self) -> None:
        """Live until the fuse or the parent says otherwise."""
        with ExitStack() as stack:
            for change in self._changes():
                stack.enter_context(change)
            trio.run(self._live)

    async def _live(self) -> None:
        # Several peers are asked at once; the other end answers in order.
        self._asked: deque[trio.MemorySendChannel[Record]] = deque()
        line = Line(self.ids, self._left, self._ask)
        disk = FusedDisk(self.fuse)
        async with (
            open_chain(self.config, line, TrioClock(), disk=disk) as parts,
            trio.open_nursery() as nursery,
        ):
            driver = parts.driver
            head = driver.ledger.tip
            born = bytes((bool(driver.stopped),)) + head.height.to_bytes(8, "big") + head.block_hash
            self._say(wire.BORN, born)
            driver.on_head.append(self._acknowledge)
            await nursery.start(parts.run)
            nursery.start_soon(self._hear, line, driver)

    async def _hear(self, line: Line, driver: Driver) -> None:
        frames = wire.Frames()
        own = trio.socket.from_stdlib_socket(self.end)
        told = False
        while raw := await own.recv(1 << 16):
            if driver.state.observer is not None and not told:
                told = True
                self._say(wire.OBSERVES, b"")
            for kind, sender, body in frames.feed(raw):
                if kind == wire.TRANSACTION:
                    try:
                        driver.hear_transaction(body, decode_transaction(body))
                    except PrsmError:
                        continue
                    continue
                message = wire.unpack(kind, body)
                if isinstance(message, GotBlocks | GotBlock):
                    self._asked.popleft().send_nowait(message)
                else:
                    line.hear(sender, message)
        os._exit(0)

    async def _ask(self, ask: Record) -> Record:
        send, receive = trio.open_memory_channel[Record](1)
        self._asked.append(send)
        self._write(wire.pack(0, ask))
        return await receive.receive()

    def _left(self, to: int, message: Record) -> None:
        if type(message) not in wire.RECORDS:
            return  # hints about transactions, which the clients here give to everybody
        self._write(wire.pack(to, message))
        if isinstance(message, SignedMessage) and self.fuse.at("one peer told"):
            self.fuse.burn()

    def _acknowledge(self, head: Head) -> None:
        height = head.block.header.height.to_bytes(8, "big")
        self._say(wire.ACKED, height + b"".join(head.outcome.tx_ids))

    def _say(self, kind: int, raw: bytes) -> None:
        self._write(wire.frame(kind, 0, raw))

    def _write(self, raw: bytes) -> None:
        # The descriptor does not block for trio's sake; the parent always reads.
        rest = memoryview(raw)
        while rest:
            try:
                rest = rest[self.end.send(rest) :]
            except BlockingIOError:
                continue

    def _changes(self) -> list[AbstractContextManager[object]]:
        fuse = self.fuse
        append, commit, apply = SignFiles.append, LedgerStore.commit, ledger_module._apply

        def fused_append(self: SignFiles, records: tuple[bytes, ...]) -> None:
            fuse.light(records)
            append(self, records)

        async def fused_commit(self: LedgerStore, *args: object, **kwargs: object) -> None:
            fuse.reach("ledger commit", "before")
            await commit(self, *args, **kwargs)  # type: ignore[arg-type]  # passed on as they came
            fuse.reach("ledger commit", "durable")

        def fused_apply(*args: object) -> None:
            apply(*args)  # type: ignore[arg-type]  # passed on as they came
            fuse.reach("ledger commit", "inside the transaction")

        return [
            patch.object(SignFiles, "append", fused_append),
            patch.object(LedgerStore, "commit", fused_commit),
            patch.object(ledger_module, "_apply", fused_apply),
            patch.object(signlog, "SEGMENT_BYTES", SEGMENT_BYTES),
        ]


def spawn(config: ChainConfig, ids: list[PeerId], fuse: Fuse) -> tuple[int, socket.socket]:
    """Fork a life; its process id and the parent's end of the socket.

    Args:
        config: which home.
        ids: peer ids of all four.
        fuse: where it ends.
    """
    own, child = socket.socketpair()
    with warnings.catch_warnings():
        # Python 3.12 warns of threads: trio forgets its own in the child, and nothing else runs.
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid:
        child.close()
        return pid, own
    code = 1
    try:
        own.close()
        child.setblocking(False)
        Mortal(config, ids, child, fuse).run()
        code = 0
    finally:
        os._exit(code)
