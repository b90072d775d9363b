"""Fetches between real processes: killed again and again, beside faulty peers, while nodes die.

Run: python -m prsm.testnet.fetches cuts|faults|churn

Knows processes and their orders (`blockpeer`). Must not know how a fetch works; it is judged by the
bytes on disk, by what the serving peers counted, and by the clock.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from random import Random
from typing import Final

import trio

from prsm.protocol.limits import KIB, MIB
from prsm.testnet.blockpeer import Act
from prsm.testnet.fetchpeers import Answer, Peer, peers_of
from prsm.testnet.processes import NodeDied, NotInTime

AGAIN_BYTES_MAX: Final = 64 * MIB  # fetched a second time after a kill
SLOWER_MAX: Final = 2.0
SUCCESS_MIN: Final = 0.999


def _number(answer: Answer, key: str) -> float:
    value = answer[key]
    assert isinstance(value, int | float), answer
    return value


# -- a node killed again and again


async def cuts(folder: Path, *, size: int, kills: int) -> Answer:
    """Kill the fetching node `kills` times, evenly; the next one goes on."""
    holders = [Peer(folder / f"holder{n}", n) for n in (1, 2)]
    fetcher = Peer(folder / "fetcher", 9, "--progress")
    again: list[int] = []
    got: Answer = {"sha256": ""}
    async with peers_of(holders):
        *_, put = [await holder.ask("put", 1, size) for holder in holders]
        for number in range(kills + 1):
            before = await _sent(holders)
            async with peers_of([fetcher]) as nursery:
                for holder in holders:
                    await fetcher.ask("connect", holder.address)
                if number < kills:
                    fetcher.verified = 0
                    nursery.start_soon(_ignore_death, fetcher, "get", put["root"], size)
                    await fetcher.wait_verified(size * (number + 1) // (kills + 1))
                    await fetcher.kill()
                else:
                    got = await fetcher.ask("get", put["root"], size)
            again.append(await _sent(holders) - before)
    twice = sum(again) - size
    return {
        "kills": kills,
        "bytes": size,
        "sent_more": twice,
        "sent_more_each": twice / kills if kills else 0,
        "is_equal": got["sha256"] == put["sha256"],
        "holds": got["sha256"] == put["sha256"] and twice <= kills * AGAIN_BYTES_MAX,
    }


async def _sent(peers: Sequence[Peer]) -> int:
    return sum([int(_number(await peer.ask("counts"), "sent")) for peer in peers])


async def _ignore_death(peer: Peer, word: str, *words: object) -> None:
    try:
        await peer.ask(word, *words)
    except NodeDied:
        return


# -- one of three is faulty


async def faults(folder: Path, *, size: int, upload: int) -> Answer:
    """Three peers, each limited to `upload` bytes a second; then one of them is faulty.

    Of wrong blocks two figures are told: what the peer had under way when it was cut off, and what
    the fetching node took of it to be checked, of which one may be wrong.
    """
    rows: dict[str, Answer] = {}
    honest_s = 0.0
    for act in Act:
        row = await _one_fault(folder / act.value, act, size=size, upload=upload)
        seconds = _number(row, "seconds")
        honest_s = honest_s or seconds
        row["times_honest"] = round(seconds / honest_s, 2)
        is_soon = seconds <= SLOWER_MAX * honest_s
        row["holds"] = bool(row["is_equal"]) and is_soon and row["bad_blocks_taken"] in {0, 1}
        rows[act.value] = row
    return {"bytes": size, "rows": rows, "holds": all(row["holds"] for row in rows.values())}


async def _one_fault(folder: Path, act: Act, *, size: int, upload: int) -> Answer:
    flags = ("--upload", str(upload))
    good = 0 if act is Act.STRANGER else size // MIB // 12
    peers = [
        Peer(folder / "1", 1, *flags, "--act", act.value, "--good", str(good)),
        Peer(folder / "2", 2, *flags),
        Peer(folder / "3", 3, *flags),
    ]
    fetcher = Peer(folder / "fetcher", 9)
    async with peers_of([*peers, fetcher]):
        *_, put = [await peer.ask("put", 1, size) for peer in peers]
        for peer in peers:
            await fetcher.ask("connect", peer.address)
        got = await fetcher.ask("get", put["root"], size)
        counts = [await peer.ask("counts") for peer in peers]
    blamed = got.get("blamed")
    return {
        "seconds": round(_number(got, "seconds"), 2),
        "is_equal": got["sha256"] == put["sha256"],
        "bad_blocks_sent": counts[0]["bad"],
        "bad_blocks_taken": got["wrong"],
        "sent_more_percent": round(100 * (sum(_number(c, "sent") for c in counts) / size - 1), 2),
        "wasted_percent": round(100 * _number(got, "wasted") / size, 2),
        "blamed": len(blamed) if isinstance(blamed, dict) else 0,
    }


# -- nodes that die while files are put and got


@dataclass
class Load:
    """Puts and gets over five nodes, of which one dies every while."""

    peers: Sequence[Peer]
    dice: Random
    operations: int
    until_s: float
    files: list[tuple[str, str, int]] = field(default_factory=list)  # root, sha256, size
    done: int = 0
    failed: list[str] = field(default_factory=list)
    retried: int = 0
    kills: int = 0

    async def worker(self) -> None:
        """Do operations until enough are begun."""
        while self.done < self.operations and trio.current_time() < self.until_s:
            self.done += 1
            is_put = len(self.files) < 5 or self.dice.random() < 0.3
            try:
                await (self._put() if is_put else self._get())
            except NotInTime as error:
                self.failed.append(error.what)

    async def _put(self) -> None:
        """Put a file at one node, and have two others hold it too."""
        seed, size = self.dice.getrandbits(40), self.dice.choice((4, 64, 256, 1500)) * KIB
        home = self.dice.choice(self.peers)
        put = await self._try(lambda: self._ask_live("put", seed, size, first=home))
        root, sha256 = str(put["root"]), str(put["sha256"])
        for _ in range(2):
            await self._try(lambda: self._ask_live("get", root, size))
        self.files.append((root, sha256, size))
        if len(self.files) > 200:
            self.files.pop(0)

    async def _get(self) -> None:
        """Get a file at any node and compare its hash."""
        root, sha256, size = self.dice.choice(self.files)
        got = await self._try(lambda: self._ask_live("get", root, size))
        if got["sha256"] != sha256:
            raise NotInTime(f"{root}: other bytes")

    async def _ask_live(self, word: str, *words: object, first: Peer | None = None) -> Answer:
        live = [peer for peer in self.peers if peer.is_up and peer.address]
        peer = first if first in live else self.dice.choice(live)
        assert peer is not None
        return await peer.ask(word, *words)

    async def _try(self, call: Callable[[], Awaitable[Answer]]) -> Answer:
        """Ask until it is done, at another node each time, four times in all."""
        last = ""
        for attempt in range(4):
            self.retried += attempt > 0
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

    async def killer(self, nursery: trio.Nursery, every_s: float) -> None:
        """Kill a node, start it again, connect it; and so on."""
        while True:
            await trio.sleep(every_s)
            victim = self.dice.choice(self.peers)
            await victim.kill()
            self.kills += 1
            await trio.sleep(2)
            await victim.start(nursery)
            await _mesh(victim, self.peers)


async def _mesh(one: Peer, others: Sequence[Peer]) -> None:
    for other in others:
        if other is not one and other.is_up and other.address:
            await _ignore_death(one, "connect", other.address)


async def churn(
    folder: Path, *, operations: int, seed: int, every_s: float, seconds: float
) -> Answer:
    """Puts and gets at five nodes, one of which is killed every `every_s` seconds."""
    peers = [Peer(folder / str(n), n) for n in range(1, 6)]
    async with peers_of(peers) as nursery:
        for number, peer in enumerate(peers):
            await _mesh(peer, peers[:number])
        began = trio.current_time()
        load = Load(peers, Random(seed), operations, began + seconds)
        async with trio.open_nursery() as work:
            work.start_soon(load.killer, nursery, every_s)
            async with trio.open_nursery() as workers:
                for _ in range(8):
                    workers.start_soon(load.worker)
            work.cancel_scope.cancel()
        took_s = trio.current_time() - began
    share = 1 - len(load.failed) / load.done
    return {
        "operations": load.done,
        "failed": len(load.failed),
        "why": load.failed[:5],
        "retried": load.retried,
        "kills": load.kills,
        "seconds": round(took_s, 1),
        "success_percent": round(100 * share, 3),
        "holds": share >= SUCCESS_MIN,
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Play one of them and print a document; 0 if what must hold holds."""
    parser = argparse.ArgumentParser(prog="prsm-testnet fetches", description=__doc__)
    words = parser.add_subparsers(dest="word", required=True)
    cut = words.add_parser("cuts", help="kill -9 of the fetching node")
    cut.add_argument("--size", type=int, default=1 << 30)
    cut.add_argument("--kills", type=int, default=5)
    fault = words.add_parser("faults", help="one of three peers is faulty")
    fault.add_argument("--size", type=int, default=1 << 29)
    fault.add_argument("--upload", type=int, default=15_000_000, help="bytes a second of a peer")
    churning = words.add_parser("churn", help="puts and gets while nodes die")
    churning.add_argument("--operations", type=int, default=10_000)
    churning.add_argument("--seed", type=int, default=1)
    churning.add_argument("--every", type=float, default=30.0, help="seconds between two kills")
    churning.add_argument("--seconds", type=float, default=3600.0, help="at most")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="prsm-fetches-") as name:
        folder = Path(name)
        match options.word:
            case "cuts":
                told = trio.run(partial(cuts, folder, size=options.size, kills=options.kills))
            case "faults":
                told = trio.run(partial(faults, folder, size=options.size, upload=options.upload))
            case _:
                told = trio.run(
                    partial(
                        churn,
                        folder,
                        operations=options.operations,
                        seed=options.seed,
                        every_s=options.every,
                        seconds=options.seconds,
                    )
                )
    sys.stdout.write(json.dumps(told, indent=1) + "\n")
    return 0 if told["holds"] else 1


if __name__ == "__main__":
    sys.exit(main())
