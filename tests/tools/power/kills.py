"""A validator killed at each moment, its home restored and copied; its parent hears all it signs.

A universe is one network: three validators here, the fourth a process of its own that lives again
and again on one home. Its other homes (an older copy, a copy elsewhere, older files among newer
ones) are tried between the lives.
"""

import os
import select
import shutil
import signal
import socket
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Final

from prsm.node.chain.chain import ChainConfig
from prsm.node.clock import TrioClock
from prsm.protocol.codec import Record
from prsm.protocol.ed25519 import Ed25519Signer
from prsm.protocol.messages.consensus import SignedMessage, Status
from prsm.protocol.signing import Kind
from tests.tools.power import wire
from tests.tools.power.mortal import (
    COMMIT_STAGES,
    RECORD_STAGES,
    RECORDS,
    SEGMENT_STAGES,
    Fuse,
    spawn,
)
from tests.tools.power.peers import Peers
from tests.tools.power.victim import Network
from tests.tools.power.witness import Witness

MOMENTS: Final = (
    *(
        (what, stage)
        for what in RECORDS
        for stage in RECORD_STAGES
        if what not in {"Entered", "LowMark"} or "guard" not in stage  # these are no votes
    ),
    *(("ledger commit", stage) for stage in COMMIT_STAGES),
    *(("segment", stage) for stage in SEGMENT_STAGES),
    ("any time", ""),
)
HOMES: Final = (
    "older copy",
    "copy elsewhere",
    "older log",
    "older ledger",
    "rolled back in place",
    "no guard",
    "no log",
)
_SILENT: Final = frozenset(("older copy", "copy elsewhere", "no guard", "no log"))
_LIFE_SECONDS: Final = 2.0
_ENOUGH: Final = 20  # kills after which the fourth must have been seen to take part
_OBSERVED_BLOCKS: Final = 2  # fewer than an observer waits for before it may sign again


@dataclass
class Life:
    """What one life said and did."""

    observer: bool = False
    height: int = -1  # of its ledger at start; -1: it died before it said so
    head: bytes = b""
    known: int = 0  # the highest height that was acknowledged before it
    signed: int = 0
    kinds: list[str] = field(default_factory=list)
    acked: int = 0
    burnt: bool = False  # ended by its fuse


@dataclass
class Tally:
    """What a run has seen."""

    lives: int = 0
    moments: Counter[str] = field(default_factory=Counter)
    homes: Counter[str] = field(default_factory=Counter)
    observers: Counter[str] = field(default_factory=Counter)
    kinds: Counter[str] = field(default_factory=Counter)
    acked: int = 0
    blocks: int = 0
    late: int = 0  # homes tried that did not start in time
    faults: list[str] = field(default_factory=list)

    @property
    def kills(self) -> int:
        """Lives that ended by SIGKILL."""
        return sum(self.moments.values())


class Universe:
    """One network and the many lives of its fourth validator."""

    def __init__(self, seed: int, folder: Path) -> None:
        self.dice = Random(seed)
        self.folder = folder
        self.network = Network.make(folder, self.dice)
        genesis = self.network.cluster.genesis
        self.peers = Peers(genesis, self.network.seeds, self.dice, TrioClock().wall_ms)
        lab = self.network.cluster.labs[0]
        self.home = folder / "home"
        self.home.mkdir(mode=0o700)
        self.config = ChainConfig(
            genesis, self.home, lab.folder / "wallet.key", (lab.consensus_seed,)
        )
        self.witness = Witness(Ed25519Signer(lab.consensus_seed).public_key, genesis.chain_id)
        self.tally = Tally()
        self.acked: dict[bytes, int] = {}
        self.is_spent = False
        self._out = bytearray()
        self.peers.tell = self._tell

    def run(self, kills: int) -> Tally:
        """Kill so often, fewer if another home signed; between, try the other homes."""
        moments: list[tuple[str, str]] = []
        while self.tally.kills < kills and not self.is_spent:
            if not moments:
                moments = list(MOMENTS)
                self.dice.shuffle(moments)
            self.kill(*moments.pop())
            if self.dice.random() < 0.2 and self.peers.height > 10:
                self.try_home(self.dice.choice(HOMES))
        self.tally.kinds = self.witness.kinds
        self.tally.faults += self.witness.faults
        self.tally.blocks = self.peers.height
        self.tally.acked = len(self.acked)
        if self.tally.kills >= _ENOUGH and self.tally.moments["any time"] > self.tally.kills // 2:
            self.tally.faults.append("most lives never came to their moment: it takes no part")
        if self.peers.is_stuck():
            self.tally.faults.append("a peer halted")
        return self.tally

    def kill(self, what: str, stage: str) -> None:
        """One life that ends at this moment, or a little later by our hand."""
        times = self.dice.choice((1, 1, 1, 2, 3, 5)) if what != "LowMark" else 1
        fuse = Fuse(what, stage, times)
        seconds = self.dice.uniform(0.01, 0.2) if what == "any time" else _LIFE_SECONDS
        life = self._live(self.home, fuse, _never, seconds=seconds)
        self._judge(life)
        if life.observer:
            self.tally.faults.append(f"observer after an ordinary kill, before {what}, {stage}")
        self.tally.moments[f"{what}, {stage}" if life.burnt and stage else "any time"] += 1

    def _judge(self, life: Life) -> None:
        """Nothing acknowledged may be missing from the ledger a life began with."""
        if life.height < 0:
            return
        if life.height < life.known:
            self.tally.faults.append(
                f"ledger at {life.height}, height {life.known} was acknowledged"
            )

    def try_home(self, which: str) -> None:
        """Start what an operator may bring back, then put the true home back."""
        home, old, saved = self.home, self.folder / "old", self.folder / "saved"
        link, elsewhere = self.folder / "guard", self.folder / "elsewhere"
        for path in (old, saved, elsewhere):
            shutil.rmtree(path, ignore_errors=True)
        shutil.copytree(home, old)
        # It votes on, so the copy is old.
        votes = self.dice.choice((1, 2, 3, 9))
        # Of a home rolled back whole only peers know what it signed: they must have heard it.
        is_heard = which == "rolled back in place"
        self._live(
            home,
            Fuse(),
            lambda life: life.signed >= votes,
            seconds=_LIFE_SECONDS,
            loud=is_heard,
        )
        shutil.copytree(home, saved)
        guard = home / "signguard"
        os.link(guard, link)  # the guard must come back as the file it is
        tried = elsewhere if which == "copy elsewhere" else home
        _change(which, home, old, elsewhere)
        height, acked = self.peers.height, dict(self.acked)
        life = self._live(
            tried,
            Fuse(),
            lambda life: life.height >= 0 and self.peers.height >= height + _OBSERVED_BLOCKS,
            seconds=_LIFE_SECONDS,
            loud=True,
        )
        self.acked = acked  # what this home was told of went with it
        # Two homes of one key have signed now: the true one would be told, and rightly observe.
        self.is_spent = bool(life.signed)
        if life.height < 0:
            self.tally.late += 1  # a slow machine: it was ended before it said anything
        else:
            self.tally.homes[which] += 1
            self.tally.observers[which] += life.observer
        if life.height >= 0 and which in _SILENT and (life.signed or not life.observer):
            self.tally.faults.append(f"{which}: signed {life.kinds}, observer {life.observer}")
        shutil.rmtree(home)
        shutil.copytree(saved, home)
        link.write_bytes((saved / "signguard").read_bytes())
        link.replace(guard)

    def _live(
        self,
        home: Path,
        fuse: Fuse,
        is_enough: Callable[[Life], bool],
        *,
        seconds: float,
        loud: bool = False,
    ) -> Life:
        config = ChainConfig(
            self.config.genesis, home, self.config.wallet, self.config.consensus_seeds
        )
        life, frames = Life(known=max(self.acked.values(), default=0)), wire.Frames()
        self._out.clear()
        pid, end = spawn(config, self.network.ids, fuse)
        end.setblocking(False)
        is_loud = loud or fuse.what == "LowMark"
        self.peers.muted = None if is_loud else self.dice.choice((None, 1, 2, 3))
        deadline = time.monotonic() + seconds
        self.tally.lives += 1
        try:
            while time.monotonic() < deadline and not is_enough(life):
                raw = _receive(end)
                if raw == b"":
                    life.burnt = True
                    break
                for kind, to, body in frames.feed(raw or b""):
                    self._hear(life, kind, to, body)
                self._stir(fuse)
                _send(end, self._out)
        finally:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            while (raw := _receive(end, wait=True)) != b"":
                for kind, to, body in frames.feed(raw or b""):
                    self._hear(life, kind, to, body)
            _, status = os.waitpid(pid, 0)
            end.close()
        if os.WTERMSIG(status) != signal.SIGKILL:
            self.tally.faults.append(f"the process ended by itself, status {status}")
        return life

    def _stir(self, fuse: Fuse) -> None:
        """Let the network live on a little."""
        dice, peers = self.dice, self.peers
        if peers.waiting < 8:
            for _ in range(dice.randint(0, 4)):
                raw = self.network.transfer()
                peers.submit(raw)
                self._out += wire.frame(wire.TRANSACTION, 0, raw)
        if fuse.what == "LowMark":
            peers.deaf = dice.random() < 0.9 if dice.random() < 0.1 else peers.deaf
        else:
            peers.deaf = False
        if dice.random() < 0.1:
            peers.greet()
        slow = 0.1 if fuse.what in {"Left", "Entered"} else 0.01
        peers.advance(900 if dice.random() < slow else 5)
        peers.pump(dice.randint(1, 30))

    def _tell(self, sender: int, message: Record) -> None:
        self._out += wire.pack(sender, message)

    def _hear(self, life: Life, kind: int, to: int, body: bytes) -> None:
        if kind == wire.BORN:
            life.observer = bool(body[0])
            life.height, life.head = int.from_bytes(body[1:9], "big"), body[9:]
            self.peers.greet()
            return
        if kind == wire.OBSERVES:
            life.observer = True
            return
        if kind == wire.ACKED:
            life.acked += 1
            height = int.from_bytes(body[:8], "big")
            for start in range(8, len(body), 32):
                self.acked[body[start : start + 32]] = height
            return
        message = wire.unpack(kind, body)
        if isinstance(message, SignedMessage):
            # A NEW_VIEW may be that of the log, signed before it was copied and not yet told.
            if self.witness.hear(message) and message.kind is not Kind.NEW_VIEW:
                life.signed += 1
                life.kinds.append(message.kind.name)
            self.peers.hear_one(to, message)
        elif isinstance(message, Status):
            self.peers.hear_one(to, message)
        else:
            self._out += wire.pack(1, self.peers.answer(message))


def _never(life: Life) -> bool:
    del life
    return False


def _change(which: str, home: Path, old: Path, elsewhere: Path) -> None:
    log, guard = home / "consensus.wal", home / "signguard"
    match which:
        case "older copy":
            shutil.rmtree(home)
            shutil.copytree(old, home)
        case "copy elsewhere":
            shutil.copytree(home, elsewhere)
        case "no guard":
            guard.unlink()
        case "no log":
            log.unlink()
        case "older log":
            shutil.copyfile(old / log.name, log)
        case _:
            for path in home.glob("ledger.db*"):
                path.unlink()
            for path in old.glob("ledger.db*"):
                shutil.copyfile(path, home / path.name)
            if which == "rolled back in place":
                log.write_bytes((old / log.name).read_bytes())
                guard.write_bytes((old / guard.name).read_bytes())


def _receive(end: socket.socket, *, wait: bool = False) -> bytes | None:
    """Bytes, b"" at the end, None if there are none now."""
    select.select([end], [], [], 5.0 if wait else 0.001)
    try:
        return end.recv(1 << 20)
    except BlockingIOError:
        return None
    except ConnectionResetError:
        return b""


def _send(end: socket.socket, out: bytearray) -> None:
    with suppress(BlockingIOError, BrokenPipeError, ConnectionResetError):
        while out:
            sent = end.send(out)
            del out[:sent]
