"""The stages `wait` and `check`: every node decides again, and what must hold on any network holds.

Knows: what a network's folder tells of load and faults, what its nodes answer. Must not know: how
anything was broken. One chain, one root, all money, heights that only grow, every transaction at
most once, nothing acknowledged lost, nothing paid twice, nobody honest banned or voted out, memory
and files within bounds, no block where there was no quorum.
"""

import time
from pathlib import Path
from typing import Final

import trio

from prsm.protocol.transactions.results import TxReceipt
from prsm.testnet import exports, invariants, jobload, load, vitals
from prsm.testnet.asking import Door
from prsm.testnet.effects import Effects, judge
from prsm.testnet.faults import Kind
from prsm.testnet.histories.check import check as check_serially
from prsm.testnet.histories.record import History, Write
from prsm.testnet.perturbed import done
from prsm.testnet.pulse import Pulse
from prsm.testnet.scene import Scene, opened

WAIT_PULSE: Final = 1  # account of this stage
SHOWN_MAX: Final = 20
MIB: Final = 1024 * 1024

Document = dict[str, object]


async def wait(folder: Path) -> Document:
    """Wait until a new write is durable at every node, and all stand at one height."""
    async with opened(folder) as scene:
        return await wait_level(scene)


async def wait_level(scene: Scene) -> Document:
    """The same on an open network.

    Raises:
        NotInTime: a node does not get there.
    """
    began = time.monotonic()
    pulse = await scene.pulse(WAIT_PULSE)
    waited = [await _beat(pulse, scene, place) for place in range(len(scene.watches))]
    height = await exports.settle(scene.doors)
    return {"height": height, "write_ms": waited, "seconds": round(time.monotonic() - began, 2)}


async def _beat(pulse: Pulse, scene: Scene, place: int) -> float:
    return round(await pulse.beat(scene.watches[place]), 1)


async def check(folder: Path) -> Document:
    """Judge a network that nobody disturbs any more; the document names what does not hold."""
    async with opened(folder) as scene:
        return await check_scene(scene)


async def check_scene(scene: Scene) -> Document:
    """The same on an open network."""
    height = await exports.settle(scene.doors)
    agreement = await trio.to_thread.run_sync(invariants.check, scene.network, scene.genesis)
    chains = {
        node.name: await exports.export(door, height)
        for node, door in zip(scene.network.nodes, scene.doors, strict=True)
    }
    writes = [entry.write() for entry in load.entries(scene.folder)]
    effects = judge(chains, writes, scene.genesis, is_honest=scene.manifest.is_honest)
    broken = [f"{each.fault.value}: {each.what}" for each in effects.verdict.violations]
    if not agreement.same_state_root:
        broken.append("the nodes have different state roots")
    if not agreement.supply_conserved:
        broken.append("money appeared or vanished, or the nodes disagree on who has it")
    if _is_plain(scene, effects):
        broken += _serial(chains, writes, scene)
    # A node that took a snapshot has no receipts below it.
    whole = min(
        range(len(scene.doors)), key=lambda i: chains[scene.network.nodes[i].name].count(b"")
    )
    broken += await _paid_twice(scene, effects, scene.doors[whole])
    broken += await _people(scene)
    broken += _minorities(scene.folder)
    figures, bounds = _bounds(scene)
    broken += bounds
    return {
        "height": height,
        "nodes": agreement.nodes,
        "state_root": agreement.state_root,
        "transactions": effects.transactions,
        "acknowledged": effects.verdict.acknowledged,
        "open": effects.verdict.unknown,
        "open_in_chain": effects.verdict.unknown_in_chain,
        "jobs_locked": len(effects.jobs),
        "units_settled": len(effects.endings),
        "evidence": effects.evidence,
        **figures,
        "broken": broken[:SHOWN_MAX],
        "holds": not broken,
    }


def _is_plain(scene: Scene, effects: Effects) -> bool:
    """May the serial model replay it? It knows transfers and nobody's lies."""
    return scene.manifest.is_honest and not effects.jobs and not scene.manifest.load.jobs


def _serial(chains: dict[str, list[bytes]], writes: list[Write], scene: Scene) -> list[str]:
    """Every balance, in order, by a model of its own; pulses are nobody's load and no phantoms."""
    verdict = check_serially(History(writes=writes), chains, scene.genesis)
    return [
        f"{each.fault.value}: {each.what}"
        for each in verdict.violations
        if not each.what.endswith("nobody sent it")
    ]


async def _paid_twice(scene: Scene, effects: Effects, door: Door) -> list[str]:
    broken = []
    for (job, unit), tx_ids in effects.endings.items():
        if len(tx_ids) > 1:
            ended = sum(map(has_ended_unit, await exports.receipts(door, tx_ids)))
            if ended > 1:
                broken.append(f"unit {unit} of job {job.hex()[:16]} was paid {ended} times")
    if len(effects.jobs) != len(set(effects.jobs)):
        # A second lock of one id may only have paid its fee, which the ledger's own tests show.
        broken.append("two locks have one job id")
    specs = scene.manifest.nodes.values()
    liars = [k.peer_id for k, spec in zip(scene.keys, specs, strict=True) if spec.role == "liar"]
    for row in jobload.rows(scene.folder):
        if row.state in {"done", "failed"} and row.paid + row.refunded > row.locked:
            broken.append(f"job {row.job_id[:18]}: more than was locked was paid")
        wrongly = [peer for peer in row.outvoted if peer not in liars]
        broken += [
            f"job {row.job_id[:18]}: {peer} was outvoted and did not lie" for peer in wrongly
        ]
        if row.receipt not in {"", "verified"}:
            broken.append(f"job {row.job_id[:18]}: paid, and its receipt {row.receipt}")
        if row.paid_liars:
            broken.append(f"job {row.job_id[:18]}: a liar was paid {row.paid_liars} micro-FTNS")
    return broken


def has_ended_unit(receipt: TxReceipt) -> bool:
    """Did a settlement or finding end its unit: pay for it, or return what was reserved?

    A settlement that an audit contradicts has its effect, too, and only opens a case.
    """
    return bool(receipt.paid or receipt.returned)


async def _people(scene: Scene) -> list[str]:
    """Nobody honest is banned, stops voting, or is voted out."""
    broken = []
    specs = list(scene.manifest.nodes.values())
    punished = {n for f in scene.manifest.faults if f.kind is Kind.BYZANTINE for n in f.nodes}
    honest = {
        str(key.peer_id): name
        for key, (name, spec) in zip(scene.keys, scene.manifest.nodes.items(), strict=True)
        if not spec.lies and name not in punished
    }
    for place, (node, door) in enumerate(zip(scene.network.nodes, scene.doors, strict=True)):
        if node.name not in honest.values():
            continue
        wrongly = [honest[peer] for peer in await exports.banned(door) if peer in honest]
        broken += [f"{node.name} has banned {name}, which did nothing wrong" for name in wrongly]
        broken += await exports.stopped(node.name, door)
        members = await exports.members(door)
        if specs[place].is_validator and scene.keys[place].peer_id not in members:
            broken.append(f"{node.name} is no validator any more")
    return broken


def _minorities(folder: Path) -> list[str]:
    return [
        f"fault {line.number}, {line.outcome.kind.value}: "
        f"{line.outcome.minority_commits} blocks without a quorum"
        for line in done(folder)
        if line.outcome.minority_commits
    ]


def _bounds(scene: Scene) -> tuple[Document, list[str]]:
    """Heights only grow; memory and files stay within what the manifest allows."""
    seen = vitals.read(scene.folder)
    bounds = scene.manifest.bounds
    broken = vitals.backward(seen)
    rss = max((each.rss_bytes for each in seen), default=0) // MIB
    fds = max((each.fds for each in seen), default=vitals.UNKNOWN)
    if rss > bounds.rss_mib:
        broken.append(f"a node took {rss} MiB, at most {bounds.rss_mib}")
    if fds > bounds.fds:
        broken.append(f"a node held {fds} open files, at most {bounds.fds}")
    return {"looks": len(seen), "rss_mib_max": rss, "fds_max": fds}, broken
