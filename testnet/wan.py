"""What distance costs: finality and a paid job's time over slow, lossy links, beside loopback.

Knows: one network of real daemons at a time, the proxy between them, writes and jobs one after the
other. Must not know: why they take what they take. Distance is the proxy's (`proxy`): a delay in
each direction, and for a lost chunk the time TCP takes to send it again; no real network is shown.
"""

import random
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import trio

from prsm.protocol.errors import LocalError
from prsm.testnet import scene, stages
from prsm.testnet.jobload import JobLoad
from prsm.testnet.outages import shape
from prsm.testnet.report import Screen
from prsm.testnet.tables import ANY, LinkSpec, LoadSpec, Manifest, NodeSpec

NODES: Final = ("a", "b", "c", "d")
PULSE: Final = 0
WARM_WRITES: Final = 5  # connections, caches and the first view are no part of the figures
JOBS_SECONDS_MAX: Final = 600.0
LOOK_SECONDS: Final = 0.05
REST_SECONDS: Final = 0.3  # between writes: the empty block behind the last one

Document = dict[str, object]


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line asks for.

    Attributes:
        writes: one after the other, each durable where it was handed in.
        jobs: one after the other, of `rows` rows each, paid.
        rows: of a job.
        delay_ms: one way, between any two nodes.
        loss: share of chunks that are lost.
        seed: of keys and dice.
    """

    writes: int = 200
    jobs: int = 10
    rows: int = 6
    delay_ms: int = 50
    loss: float = 0.01
    seed: int = 0


def check_options(options: Options) -> None:
    """Refuse what cannot be measured.

    Raises:
        LocalError: names the option and what it may be.
    """
    if not 1 <= options.writes <= 10_000 or not 0 <= options.jobs <= 1_000:
        raise LocalError("1 to 10,000 writes and 0 to 1,000 jobs")
    if not 0 <= options.delay_ms <= 2_000 or not 0 <= options.loss < 0.5:
        raise LocalError("a delay of 0 to 2,000 ms and a loss of 0 to 0.5")


def measure(options: Options, screen: Screen) -> Document:
    """Measure the same on loopback and over the links.

    Raises:
        PrsmError: a network did not come up, or a write or the jobs took too long.
    """
    check_options(options)
    link = LinkSpec(between=(ANY, ANY), delay_ms=options.delay_ms, loss=options.loss)
    return {
        "nodes": len(NODES),
        "delay_ms": options.delay_ms,
        "loss": options.loss,
        "rows": options.rows,
        "seed": options.seed,
        "loopback": _one(options, (), screen),
        "wan": _one(options, (link,), screen),
    }


def _one(options: Options, links: tuple[LinkSpec, ...], screen: Screen) -> Document:
    wanted = Manifest(
        name="wan" if links else "loopback",
        seed=options.seed,
        nodes={name: NodeSpec(votes=True, models=bool(options.jobs)) for name in NODES},
        links=links,
        load=LoadSpec(jobs=1, rows=options.rows),
    )
    with stages.place(None) as folder:
        timed = partial(_timed, folder, options, screen)
        return stages.through(wanted, folder, screen, timed)


async def _timed(folder: Path, options: Options, screen: Screen) -> Document:
    async with scene.opened(folder) as found:
        dice = random.Random(f"{options.seed} wan")
        pulse = await found.pulse(PULSE)
        writes = []
        for number in range(WARM_WRITES + options.writes):
            took = await pulse.beat(found.watches[dice.randrange(len(NODES))])
            writes.append(took)
            await trio.sleep(REST_SECONDS)
            if number % 50 == 49:
                screen.note(f"{number + 1} writes, {shape(writes)}")
        document: Document = {"write_ms": shape(writes[WARM_WRITES:])}
        if options.jobs:
            document |= await _jobs(found, options, dice)
        carried = await found.links.carried()
        return document | {"chunks_lost": carried.chunks_lost}


async def _jobs(found: scene.Scene, options: Options, dice: random.Random) -> Document:
    load = JobLoad(found, dice)
    await load.prepare()
    with trio.fail_after(JOBS_SECONDS_MAX):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(load.run)
            while len(load.done) <= options.jobs:  # noqa: ASYNC110 - the first one warms up
                await trio.sleep(LOOK_SECONDS)
            load.is_closed = True
    measured = load.done[1 : options.jobs + 1]
    states = sorted({row.state for row in measured})
    return {"job_s": shape([row.seconds for row in measured]), "job_states": states}


def failures(document: Document) -> list[str]:
    """Everything in a document that should not be there."""
    broken = []
    for name in ("loopback", "wan"):
        match document.get(name):
            case {"job_states": [*states]} if states != ["done"]:
                broken.append(f"{name}: jobs ended as {', '.join(map(str, states))}")
            case _:
                pass
    return broken
