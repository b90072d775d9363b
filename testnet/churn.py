"""Puts and gets at five nodes that are killed, beside an IPFS daemon that is killed too.

Knows processes and their orders (`blockpeer`, `ipfsdaemon`). Must not know how a fetch works; it is
judged by hashes, and by what nodes say they got from whom.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from random import Random
from typing import Final

import trio

from prsm.protocol.limits import KIB
from prsm.testnet.fetchpeers import Answer, Peer, number_of, peers_of
from prsm.testnet.ipfsdaemon import IpfsDaemon
from prsm.testnet.processes import NodeDied, NotInTime

SUCCESS_MIN: Final = 0.999
NODES: Final = 5
DOORS: Final = 3  # nodes that know the IPFS daemon
FILES_MAX: Final = 200
PUT_SHARE: Final = 0.3
IPFS_SHARE: Final = 0.5  # of the files that are put, those the daemon takes too
DOWN_S: Final = 2.0  # before what was killed is started again


@dataclass(frozen=True, slots=True)
class Plan:
    """What is asked of whom.

    Attributes:
        operations: puts and gets.
        seed: of all dice.
        every_s: between two kills of a node; the daemon is killed as often, in the middle.
        seconds: after which no further operation begins.
        ipfs: how the daemon is started; without one there is none.
    """

    operations: int
    seed: int
    every_s: float
    seconds: float
    ipfs: Sequence[str] = ()


@dataclass
class Counts:
    """What happened."""

    done: int = 0
    retried: int = 0
    put_again: int = 0  # files put at another node, since the first was down before it had copies
    kills: int = 0
    ipfs_kills: int = 0
    ipfs_took: int = 0  # files
    ipfs_missed: int = 0  # files it was to take, and was down or did not get
    ipfs_asked: int = 0  # gets that nobody but the daemon was asked for at first
    ipfs_gave: int = 0  # of those, the ones that came from it
    ipfs_bytes: int = 0
    failed: list[str] = field(default_factory=list)


@dataclass
class Load:
    """Puts and gets over nodes, of which one dies every while, as does the daemon.

    Attributes:
        peers: the nodes; the first `DOORS` of them know the daemon if there is one.
        daemon: it.
        dice: who is asked for what.
        plan: how much.
        until_s: when no operation begins any more.
    """

    peers: Sequence[Peer]
    daemon: IpfsDaemon | None
    dice: Random
    plan: Plan
    until_s: float
    files: list[tuple[str, str, int]] = field(default_factory=list)  # root, sha256, size
    counts: Counts = field(default_factory=Counts)

    async def worker(self) -> None:
        """Do operations until enough are begun."""
        counts = self.counts
        while counts.done < self.plan.operations and trio.current_time() < self.until_s:
            counts.done += 1
            is_put = len(self.files) < NODES or self.dice.random() < PUT_SHARE
            try:
                await (self._put() if is_put else self._get())
            except NotInTime as error:
                counts.failed.append(error.what)

    async def _put(self) -> None:
        """Put a file at one node, perhaps at the daemon, and have two other nodes hold it too."""
        seed, size = self.dice.getrandbits(40), self.dice.choice((4, 64, 256, 1500)) * KIB
        is_shared = self.daemon is not None and self.dice.random() < IPFS_SHARE
        homes = self.peers[:DOORS] if is_shared else self.peers
        home = self.dice.choice(homes)
        put = await self._try(lambda: self._ask_live("put", seed, size, first=[home]))
        file = str(put["root"]), str(put["sha256"]), size
        is_taken = is_shared and await self._took(file, seed)
        try:
            if is_taken:
                await self._get_of_daemon(file, home)
            await self._copied(file)
        except NotInTime:  # who alone had it is down, and who put it has it still
            self.counts.put_again += 1
            away = [peer for peer in self.peers if peer is not home]
            await self._try(lambda: self._ask_live("put", seed, size, first=away))
            await self._copied(file)
        self.files.append(file)
        if len(self.files) > FILES_MAX:
            self.files.pop(0)

    async def _copied(self, file: tuple[str, str, int]) -> None:
        for _ in range(2):
            await self._checked(file, lambda: self._ask_live("get", file[0], file[2]))

    async def _took(self, file: tuple[str, str, int], number: int) -> bool:
        """Have the daemon take a file from the nodes it is connected to; it may be down."""
        assert self.daemon is not None
        try:
            data = await self.daemon.take(file[0], number)
        except (NodeDied, NotInTime):
            self.counts.ipfs_missed += 1
            return False
        if sha256(data).hexdigest() != file[1]:
            raise NotInTime(f"{file[0]}: the daemon got other bytes")
        self.counts.ipfs_took += 1
        return True

    async def _get_of_daemon(self, file: tuple[str, str, int], home: Peer) -> None:
        """Get a file at a node that asks the daemon alone; when that fails, of anybody."""
        self.counts.ipfs_asked += 1
        orders = iter(("get-ipfs",))
        doors = [peer for peer in self.peers[:DOORS] if peer.is_up and peer is not home]
        self.dice.shuffle(doors)
        got = await self._checked(
            file, lambda: self._ask_live(next(orders, "get"), file[0], file[2], first=doors)
        )
        self.counts.ipfs_gave += number_of(got, "ipfs") == file[2]

    async def _get(self) -> None:
        """Get a file at any node."""
        file = self.dice.choice(self.files)
        await self._checked(file, lambda: self._ask_live("get", file[0], file[2]))

    async def _checked(
        self, file: tuple[str, str, int], call: Callable[[], Awaitable[Answer]]
    ) -> Answer:
        """Ask until a file came, and compare its hash."""
        got = await self._try(call)
        self.counts.ipfs_bytes += int(number_of(got, "ipfs"))
        if got["sha256"] != file[1]:
            raise NotInTime(f"{file[0]}: other bytes")
        return got

    async def _ask_live(self, word: str, *words: object, first: Sequence[Peer] = ()) -> Answer:
        live = [peer for peer in self.peers if peer.is_up and peer.address]
        peer = next((peer for peer in first if peer in live), None) or self.dice.choice(live)
        return await peer.ask(word, *words)

    async def _try(self, call: Callable[[], Awaitable[Answer]]) -> Answer:
        """Ask until it is done, at another node each time, four times in all."""
        last = ""
        for attempt in range(4):
            self.counts.retried += attempt > 0
            try:
                with trio.fail_after(30):
                    answer = await call()
            except (NodeDied, trio.TooSlowError) as error:
                last = str(error)
                continue
            if answer["ok"]:
                return answer
            last = str(answer["what"])
            await trio.sleep(0.2 * (attempt + 1))
        raise NotInTime(last)

    async def node_killer(self, nursery: trio.Nursery) -> None:
        """Kill a node, start it again, connect it; and so on."""
        while True:
            await trio.sleep(self.plan.every_s)
            victim = self.dice.choice(self.peers)
            await victim.kill()
            self.counts.kills += 1
            await trio.sleep(DOWN_S)
            await victim.start(nursery)
            await mesh(victim, self.peers)

    async def daemon_killer(self, nursery: trio.Nursery) -> None:
        """Kill the daemon, start it again; and so on, between the kills of nodes."""
        assert self.daemon is not None
        await trio.sleep(self.plan.every_s / 2)
        while True:
            await self.daemon.kill()
            self.counts.ipfs_kills += 1
            await trio.sleep(DOWN_S)
            await self.daemon.start(nursery)
            await trio.sleep(self.plan.every_s - DOWN_S)


async def mesh(one: Peer, others: Sequence[Peer]) -> None:
    """Connect a node to all others that run."""
    for other in others:
        if other is not one and other.is_up and other.address:
            try:
                await one.ask("connect", other.address)
            except NodeDied:
                return


async def churn(folder: Path, plan: Plan) -> Answer:
    """Do what the plan says, and say how often it failed."""
    async with trio.open_nursery() as around:
        daemon = IpfsDaemon(folder / "ipfs", plan.ipfs) if plan.ipfs else None
        flags: Sequence[str] = ()
        try:
            if daemon is not None:
                await daemon.start(around)
                flags = ("--ipfs", daemon.address)
            peers = [
                Peer(folder / str(n), n, *(flags if n <= DOORS else ()))
                for n in range(1, NODES + 1)
            ]
            told = await _loaded(peers, daemon, plan)
        finally:
            if daemon is not None:
                with trio.CancelScope(shield=True):
                    await daemon.kill()
        around.cancel_scope.cancel()
    return told


async def _loaded(peers: Sequence[Peer], daemon: IpfsDaemon | None, plan: Plan) -> Answer:
    async with peers_of(peers) as nursery:
        for number, peer in enumerate(peers):
            await mesh(peer, peers[:number])
        began = trio.current_time()
        load = Load(peers, daemon, Random(plan.seed), plan, began + plan.seconds)
        async with trio.open_nursery() as work:
            work.start_soon(load.node_killer, nursery)
            if daemon is not None:
                work.start_soon(load.daemon_killer, nursery)
            async with trio.open_nursery() as workers:
                for _ in range(8):
                    workers.start_soon(load.worker)
            work.cancel_scope.cancel()
        took_s = trio.current_time() - began
    return _told(load, took_s)


def _told(load: Load, took_s: float) -> Answer:
    counts = load.counts
    share = 1 - len(counts.failed) / counts.done
    told: Answer = {
        "operations": counts.done,
        "failed": len(counts.failed),
        "why": counts.failed[:5],
        "retried": counts.retried,
        "put_again": counts.put_again,
        "kills": counts.kills,
        "seconds": round(took_s, 1),
        "success_percent": round(100 * share, 3),
        "holds": share >= SUCCESS_MIN,
    }
    if load.daemon is not None:
        told |= {
            "ipfs_kills": counts.ipfs_kills,
            "ipfs_took": counts.ipfs_took,
            "ipfs_missed": counts.ipfs_missed,
            "ipfs_asked": counts.ipfs_asked,
            "ipfs_gave": counts.ipfs_gave,
            "ipfs_bytes": counts.ipfs_bytes,
        }
    return told
