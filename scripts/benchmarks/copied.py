"""Refuse copied commitments: the seventh cheat, which the ledger's own rules catch.

A worker that computes nothing commits to the hash another one put on the ledger, and later shows
the other's roots as its own. A chain of one process runs the real rules and real blocks.

Run: python scripts/bench.py cheats
"""

from collections.abc import Mapping
from typing import Final

from prsm.protocol.transactions.results import Code
from prsm.testnet import jobs
from prsm.testnet.chain import Chain, small_genesis

Row = tuple[str, float, str]
JOBS: Final = 144  # as many as of each other cheat
LIFE_MS: Final = 600_000
FLAGGED: Final = "copied commitment: flagged"
BAR: Final = "copied commitment: checked jobs"
LIMITS: Final[Mapping[str, str]] = {FLAGGED: BAR}


def refused(count: int) -> int:
    """Jobs in which every attempt of a copier failed.

    It tries to settle with the other's roots under the copied hash, to bind itself to a receipt of
    its own once the other's is known, and to show the other's receipt twice.
    """
    chain = Chain(small_genesis())
    honest, copier = jobs.WORKERS[:2]
    found = 0
    for number in range(count):
        deadline_ms = chain.ledger.tip.time_ms + LIFE_MS
        lock = jobs.lock_of(f"copied {number}", deadline_ms=deadline_ms)
        jobs.open_job(chain, lock)
        right = jobs.Work(honest).receipt(chain, lock)
        theirs = jobs.commit_of(lock, right)
        chain.send(honest, theirs)
        chain.send(copier, theirs)
        copy = jobs.Work(copier).receipt(chain, lock)  # the same roots, its own signature
        codes = [
            chain.send(copier, jobs.settle_of(lock, 0, [right, copy])).code,
            chain.send(copier, jobs.commit_of(lock, copy)).code,
            chain.send(copier, jobs.settle_of(lock, 0, [right, right])).code,
        ]
        job = chain.ledger.view.job(lock.job)
        found += Code.DONE not in codes and job is not None and job.verdicts == (None,)
    return found


def measure_all() -> list[Row]:
    """Run it."""
    return [(FLAGGED, refused(JOBS), "jobs"), (BAR, JOBS, "jobs")]
