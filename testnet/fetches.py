"""Fetches between real processes: killed again and again, beside faulty peers, while nodes die.

Run: python -m prsm.testnet.fetches cuts|faults|churn

Knows processes and their orders (`blockpeer`); the last is in `churn`. Must not know how a fetch
works; it is judged by the bytes on disk, by what the serving peers counted, and by the clock.
"""

import argparse
import json
import shutil
import sys
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Final

import trio

from prsm.protocol.limits import MIB
from prsm.testnet.blockpeer import Act
from prsm.testnet.churn import Plan, churn
from prsm.testnet.fetchpeers import Answer, Peer, number_of, peers_of
from prsm.testnet.processes import NodeDied

AGAIN_BYTES_MAX: Final = 64 * MIB  # fetched a second time after a kill
SLOWER_MAX: Final = 2.0


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
    return sum([int(number_of(await peer.ask("counts"), "sent")) for peer in peers])


async def _ignore_death(peer: Peer, word: str, *words: object) -> None:
    try:
        await peer.ask(word, *words)
    except NodeDied:
        return


# -- one of three is faulty


async def faults(folder: Path, *, size: int, upload: int) -> Answer:
    """Three peers, each limited to `upload` bytes a second; then one of them is faulty.

    Of wrong blocks three figures are told: what the peer had begun to answer when it was cut off,
    what of it came whole, and what the fetching node took of it to be checked. One of them may
    be wrong.
    """
    rows: dict[str, Answer] = {}
    honest_s = 0.0
    for act in Act:
        row = await _one_fault(folder / act.value, act, size=size, upload=upload)
        seconds = number_of(row, "seconds")
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
        "seconds": round(number_of(got, "seconds"), 2),
        "is_equal": got["sha256"] == put["sha256"],
        "bad_blocks_sent": counts[0]["bad"],
        "bad_blocks_came": got["came_wrong"],
        "bad_blocks_taken": got["wrong"],
        "sent_more_percent": round(100 * (sum(number_of(c, "sent") for c in counts) / size - 1), 2),
        "wasted_percent": round(100 * number_of(got, "wasted") / size, 2),
        "blamed": len(blamed) if isinstance(blamed, dict) else 0,
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
    churning.add_argument(
        "--ipfs",
        nargs="+",
        default=(),
        metavar="WORD",
        help="an IPFS daemon beside them, killed as often: how it is started, without its "
        "repository and port",
    )
    options = parser.parse_args(arguments)
    if options.word == "churn" and options.ipfs and shutil.which(options.ipfs[0]) is None:
        parser.error(f"{options.ipfs[0]} cannot be run; python scripts/ipfs_peers.py brings Kubo")
    with tempfile.TemporaryDirectory(prefix="prsm-fetches-") as name:
        folder = Path(name)
        match options.word:
            case "cuts":
                told = trio.run(partial(cuts, folder, size=options.size, kills=options.kills))
            case "faults":
                told = trio.run(partial(faults, folder, size=options.size, upload=options.upload))
            case _:
                plan = Plan(
                    options.operations, options.seed, options.every, options.seconds, options.ipfs
                )
                told = trio.run(churn, folder, plan)
    sys.stdout.write(json.dumps(told, indent=1) + "\n")
    return 0 if told["holds"] else 1


if __name__ == "__main__":
    sys.exit(main())
