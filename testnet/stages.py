"""The stages of a test on a network's folder: up, load, perturb, wait, check, down; and all.

Knows: in which order things are started, broken, judged and ended. Must not know: how any of it is
done. Each stage can be called alone, by another process than the one before, and again: what is
done stands in files of the folder (`manifest.toml`, `network.json`, `proxy.json`, `load.jsonl`,
`jobs.jsonl`, `perturbed.jsonl`, `vitals.jsonl`). Model: CometBFT test/e2e/runner.
"""

import math
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

import trio

from prsm.protocol.errors import PrsmError
from prsm.testnet import checking, launch, links, load, scene
from prsm.testnet.faults import PARTITIONS
from prsm.testnet.jobload import JobLoad
from prsm.testnet.outages import shape
from prsm.testnet.perturb import Perturber
from prsm.testnet.perturbed import Outcome, done, note_done
from prsm.testnet.report import Screen
from prsm.testnet.scene import Scene
from prsm.testnet.tables import FaultSpec, Manifest

PERTURB_PULSE: Final = 0  # account of this stage; `checking` has another one
SHOWN_MAX: Final = 20

Document = dict[str, object]
T = TypeVar("T")


def run_trio(stage: Callable[[], Awaitable[T]]) -> T:
    """Run a stage on a loop of its own; a lone error of ours comes out as itself.

    Raises:
        PrsmError: the stage could not be done.
    """
    try:
        return trio.run(stage)
    except BaseExceptionGroup as group:
        known = group.subgroup(PrsmError)
        if known is None or group.split(PrsmError)[1] is not None:
            raise
        raise _first(known) from group


def _first(group: BaseExceptionGroup[PrsmError]) -> PrsmError:
    inner = group.exceptions[0]
    return _first(inner) if isinstance(inner, BaseExceptionGroup) else inner


@contextmanager
def place(folder: Path | None) -> Iterator[Path]:
    """A folder for one run: the given one, which stays, or one of its own, which goes.

    It stays all the same when something failed, and is named.
    """
    where = folder or Path(tempfile.mkdtemp(prefix="prsm-testnet-")) / "net"
    try:
        yield where
    except BaseException:
        print(f"kept: {where}", file=sys.stderr)  # noqa: T201 - the way back to what failed
        raise
    if folder is None:
        shutil.rmtree(where.parent, ignore_errors=True)


# -- up and down


def up(folder: Path, wanted: Manifest | None = None) -> launch.Network:
    """Make a network of a manifest, if there is none, start its proxy and all nodes that are down.

    Args:
        folder: of the network.
        wanted: None for what the folder has.

    Raises:
        LocalError: there is no network and no manifest, or the folder is in use.
        NodeDied, NotInTime: something did not come up.
    """
    if wanted is not None and not (folder / "network.json").exists():
        scene.make(folder, wanted)
    network = launch.load(folder)
    links.start(folder)
    try:
        network.start_missing()
    except KeyboardInterrupt:
        if not any(node.is_running() for node in network.nodes):
            links.stop(folder)
        raise
    return network


def down(folder: Path) -> bool:
    """End all nodes and the proxy, each by its pid; did SIGTERM suffice?

    Raises:
        NotInTime: something survives.
    """
    network = launch.load(folder)
    for node in network.nodes:
        node.signal(signal.SIGCONT)  # a stopped process takes no SIGTERM
    try:
        return network.stop()
    finally:
        links.stop(folder)


# -- load and perturb


class Traffic:
    """Transfers and jobs of a manifest, as one thing that is closed."""

    def __init__(self, found: Scene) -> None:
        spec = found.manifest.load
        self.transfers = load.Load(
            folder=found.folder,
            genesis=found.genesis,
            watches=found.watches,
            seed=found.manifest.seed,
            accounts=spec.accounts,
            rate=spec.transfers_per_s,
        )
        dice = random.Random(f"{found.manifest.seed} jobs")
        self.jobs = JobLoad(found, dice) if spec.jobs else None
        self.closed = trio.Event()

    async def prepare(self) -> None:
        """What must be there before anything is broken."""
        if self.jobs is not None:
            await self.jobs.prepare()

    async def run(self) -> None:
        """Work until closed, and then until what is open is known."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.transfers.run)
            if self.jobs is not None:
                nursery.start_soon(self.jobs.run)

    def close(self) -> None:
        """Begin nothing new."""
        self.closed.set()
        self.transfers.close()
        if self.jobs is not None:
            self.jobs.is_closed = True

    def document(self) -> Document:
        """What was done."""
        waited = self.transfers.waited_ms
        made: Document = {
            "sent": self.transfers.sent,
            "acknowledged": len(waited),
            "shed": self.transfers.shed,
            "commit_ms": shape(waited) if waited else {},
        }
        if self.jobs is not None:
            rows = self.jobs.done
            made["jobs"] = dict(Counter(row.state for row in rows))
            made["refusals"] = dict(Counter(row.why[:80] for row in rows if row.why).most_common(5))
            made["outvoted"] = sum(len(row.outvoted) for row in rows)
            made["paid_liars"] = sum(row.paid_liars for row in rows)
        return made


async def load_alone(folder: Path, seconds: float | None = None) -> Document:
    """Load a network for a while."""
    async with scene.opened(folder) as found:
        return await _load(found, found.manifest.load.seconds if seconds is None else seconds)


async def _load(
    found: Scene,
    seconds: float,
    *,
    task_status: trio.TaskStatus[Traffic] = trio.TASK_STATUS_IGNORED,
) -> Document:
    running = Traffic(found)
    await running.prepare()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(running.run)
        task_status.started(running)
        with trio.move_on_after(seconds):
            await running.closed.wait()
        running.close()
    return running.document()


async def perturb(folder: Path, screen: Screen) -> Document:
    """Carry out what the manifest wants broken and has not been yet."""
    async with scene.opened(folder) as found:
        return await _perturb(found, screen)


async def _perturb(found: Scene, screen: Screen) -> Document:
    perturber = await found.perturber(number=PERTURB_PULSE)
    await perturber.heal()  # of an earlier attempt that was ended in the middle
    past = {line.number for line in done(found.folder)}
    left = [(i, f) for i, f in enumerate(found.manifest.faults, 1) if i not in past]
    begin = min((fault.at_s for _, fault in left if fault.at_s is not None), default=0.0)
    begin = begin if past else 0.0
    try:
        async with trio.open_nursery() as nursery:
            for number, fault in left:
                one = partial(_carry_out, found, perturber, number, fault)
                if fault.at_s is None:
                    await one(screen)
                else:
                    nursery.start_soon(_at, trio.current_time() + fault.at_s - begin, one, screen)
        perturber.check_alive()
    finally:
        with trio.CancelScope(shield=True):
            await perturber.heal()
    return outcomes_of(perturber.outcomes, found.manifest.bounds.heal_s)


async def _at(when: float, one: Callable[[Screen], Awaitable[None]], screen: Screen) -> None:
    await trio.sleep_until(when)
    await one(screen)


async def _carry_out(
    found: Scene, perturber: Perturber, number: int, fault: FaultSpec, screen: Screen
) -> None:
    about = " ".join(fault.nodes) or " | ".join(" ".join(group) for group in fault.groups)
    screen.step(f"{fault.kind.value} {about}")
    outcome = await perturber.carry_out(found.manifest.fault(fault))
    note_done(found.folder, number, outcome)
    await trio.sleep(fault.rest_s)


def outcomes_of(outcomes: Sequence[Outcome], heal_s: float) -> Document:
    """Figures of faults: how many of each, blocks of minorities, how soon a commit came after."""
    by_kind: dict[str, list[float]] = {}
    for each in outcomes:
        if each.heal_ms is not None:
            by_kind.setdefault(each.kind.value, []).append(each.heal_ms)
    healed = [e.heal_ms for e in outcomes if e.kind in PARTITIONS and e.heal_ms is not None]
    return {
        "faults": dict(Counter(each.kind.value for each in outcomes)),
        "minority_commits": sum(each.minority_commits for each in outcomes),
        "heal_ms": {kind: shape(values) for kind, values in sorted(by_kind.items())},
        "partitions": len(healed),
        "partition_heal_ms": shape(healed) if healed else {},
        "heal_s_max": heal_s,
        "notes": [f"{e.kind.value}: {e.note}" for e in outcomes if e.note][:SHOWN_MAX],
    }


# -- all of them


def run(wanted: Manifest, folder: Path, screen: Screen) -> Document:
    """Every stage in order, faults beside load; everything started is ended again.

    Raises:
        PrsmError: a stage could not be done; nodes and proxy are ended all the same.
    """
    judged = through(wanted, folder, screen, partial(_run, folder, screen))
    return {"name": wanted.name, **judged}


def through(
    wanted: Manifest, folder: Path, screen: Screen, stage: Callable[[], Awaitable[Document]]
) -> Document:
    """Up, one stage on a loop of its own, down: what every whole run is made of.

    Args:
        wanted: the network.
        folder: where it lives.
        screen: told what begins.
        stage: what is done with it.

    Returns:
        The document of the stage, with the seconds that all of it took.

    Raises:
        PrsmError: a stage could not be done; nodes and proxy are ended all the same.
    """
    began = time.monotonic()
    screen.step(f"up: {wanted.name}, {len(wanted.nodes)} nodes")
    try:
        up(folder, wanted)
        document = run_trio(stage)
    finally:
        if (folder / "network.json").exists():
            screen.step("down")
            down(folder)
    return {**document, "seconds": round(time.monotonic() - began, 1)}


async def _run(folder: Path, screen: Screen) -> Document:
    async with scene.opened(folder) as found:
        async with trio.open_nursery() as nursery:
            running = await nursery.start(partial(_load, found, math.inf))
            screen.step("load and perturb")
            least = trio.current_time() + found.manifest.load.seconds
            faults = await _perturb(found, screen)
            await trio.sleep_until(least)
            running.close()
        screen.step("wait")
        level = await checking.wait_level(found)
        screen.step("check")
        judged = await checking.check_scene(found)
        carried = await found.links.carried()
    return {
        "load": running.document(),
        "perturb": faults,
        "wait": level,
        "check": judged,
        "bytes_carried": carried.bytes_passed,
        "chunks_lost": carried.chunks_lost,
    }


def failures(document: Document) -> list[str]:
    """Everything in a document that should have held and did not."""
    broken: list[str] = []
    match document.get("perturb"):
        case {"minority_commits": int(commits)} if commits:
            broken.append(f"{commits} blocks without a quorum")
        case _:
            pass
    match document.get("perturb"):
        case {"partition_heal_ms": {"p99": float(p99)}, "heal_s_max": float(most)}:
            if p99 > 1000 * most:
                broken.append(f"p99 from healing to the next commit {p99:.0f} ms, at most {most} s")
        case _:
            pass
    match document.get("check"):
        case {"broken": list(found)}:
            broken += found
        case _:
            pass
    return broken
