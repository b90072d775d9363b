"""Crash points: places on a tape, what a power cut there may leave, and what a start makes of it.

Ordinary cuts must lose nothing and make no observer. Disks that lie must be noticed.
"""

import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Final

from tests.tools.power.record import LOG_FILES, Recording
from tests.tools.power.sqlite import Recorder, recorded
from tests.tools.power.tape import Begin, Note, Platter, State, Tape
from tests.tools.power.verdict import (
    Found,
    Promises,
    hear,
    is_known_limit,
    is_noticed,
    resync,
    start,
)

_TWICE: Final = 0.1  # of the cuts, so many are followed by one while the node starts
_RESYNC: Final = 0.1
_LIE: Final = 0.3
FIRST_HEARD: Final = 2  # with the node itself three of four: now it may sign


@dataclass
class Cuts:
    """What the crash points showed."""

    points: int = 0
    twice: int = 0
    acknowledged: int = 0  # transactions promised, summed over all points
    votes: int = 0
    late: int = 0  # noticed only when peers had spoken that weigh a quorum without the node
    outcomes: Counter[str] = field(default_factory=Counter)
    resynced: int = 0
    limits: list[str] = field(default_factory=list)  # known, in docs/testing.md
    faults: list[str] = field(default_factory=list)


async def ordinary(recording: Recording, count: int, seed: int) -> Cuts:
    """Cut the power at `count` places of an honest disk; nothing promised may be gone."""
    dice, cuts = Random(seed), Cuts()
    operations = recording.tape.operations
    places = sorted(dice.choices(range(len(operations)), k=count))
    platter, promises, played = Platter(), Promises(), 0
    with _folder() as folder:
        for place in places:
            for operation in operations[played : place + 1]:
                platter.play(operation)
                if isinstance(operation, Note):
                    promises.note(operation)
            played = max(played, place + 1)
            disk = platter.settle(dice)
            if dice.random() < _TWICE:
                disk = await _cut_again(recording, disk, promises, folder, dice)
                cuts.twice += 1
            found = await start(recording, disk, promises, folder)
            _count(cuts, promises)
            outcome = describe(found)
            cuts.outcomes[outcome] += 1
            if outcome != "whole":
                cuts.faults.append(f"operation {place}: {outcome}: {_details(found)}")
    return cuts


async def lying(recording: Recording, count: int, seed: int) -> Cuts:
    """Cut the power of a disk whose syncs lied; what is lost must be noticed, and come back.

    Half of the disks lie at three syncs in ten, half keep nothing of their last seconds.
    """
    dice, cuts = Random(seed), Cuts()
    operations = recording.tape.operations
    ends = [
        place for place in range(50, len(operations)) if not isinstance(operations[place], Note)
    ]
    with _folder() as folder:
        for _ in range(count):
            place = dice.choice(ends)
            since = dice.randrange(place) if dice.getrandbits(1) else None
            platter, promises = Platter(), Promises()
            for number, operation in enumerate(operations[:place]):
                lie = dice.random() < _LIE if since is None else number >= since
                platter.play(operation, lie=lie)
                if isinstance(operation, Note):
                    promises.note(operation)
            found = await start(recording, platter.settle(dice), promises, folder)
            _count(cuts, promises)
            outcome = describe(found)
            if found.state is not None:
                peers = dice.sample((1, 2, 3), 3)
                hear(recording, found.state, promises, peers[:FIRST_HEARD])
                # A vote may have reached one peer only: it is the last one to be heard.
                is_late = not is_noticed(found, promises)
                hear(recording, found.state, promises, peers[FIRST_HEARD:])
                if found.observer is None and found.state.observer is not None:
                    outcome = f"told by peers, {outcome}"
                cuts.late += is_late
            cuts.outcomes[outcome] += 1
            if not is_noticed(found, promises) and is_known_limit(found, promises):
                cuts.limits.append(f"operation {place}: {_details(found)}")
            elif not is_noticed(found, promises):
                cuts.faults.append(f"not noticed at operation {place}: {_details(found)}")
            elif outcome != "whole" and dice.random() < _RESYNC:
                cuts.resynced += 1
                fault = resync(recording, found)
                if fault:
                    cuts.faults.append(f"no resync at operation {place}: {fault}")
    return cuts


def describe(found: Found) -> str:
    """The outcome of a start in a few words."""
    if found.refused is not None:
        return "ledger refused"
    words = []
    if found.observer is not None:
        words.append("observer")
    if found.lost:
        words.append("transactions missing")
    if found.wrong:
        words.append("another state")
    if found.forgotten:
        words.append("votes forgotten")
    return ", ".join(words) or "whole"


async def _cut_again(
    recording: Recording, disk: State, promises: Promises, folder: Path, dice: Random
) -> State:
    """The power goes again while the node starts from what the first cut left."""
    tape = Tape(files=max((number for number, _ in disk.values()), default=0))
    tape.add(Begin(tuple((name, number, raw) for name, (number, raw) in disk.items())))
    numbers = {n: number for n, (number, _) in disk.items() if not n.startswith(LOG_FILES)}
    with recorded(Recorder(tape, numbers)):
        await start(recording, disk, promises, folder, tape)
    platter = Platter()
    for operation in tape.operations[: dice.randint(1, len(tape.operations))]:
        platter.play(operation)
    return platter.settle(dice)


def _count(cuts: Cuts, promises: Promises) -> None:
    cuts.points += 1
    cuts.acknowledged += len(promises.acked)
    cuts.votes += len(promises.votes)


def _details(found: Found) -> str:
    votes = [f"{v.message.kind.name} {v.message.height}/{v.message.view}" for v in found.forgotten]
    return (
        f"refused {found.refused}, observer {found.observer}, lost {found.lost}, "
        f"{found.wrong}, forgotten {votes[:3]}, ledger at {found.height}"
    )


@contextmanager
def _folder() -> Iterator[Path]:
    shared = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=shared if shared.is_dir() else None) as name:
        yield Path(name) / "data"
