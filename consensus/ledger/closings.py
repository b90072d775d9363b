"""Closed jobs in the order they closed, so that the state forgets them after a while.

What a block forgets is bounded. Who wants a job's receipt document makes it before; blocks and
their receipts stay. Source: docs/spec/ledger.md, "Escrow".
"""

from typing import Final

from prsm.consensus.ledger.records import Job, fault_key, job_key
from prsm.consensus.ledger.state import State
from prsm.protocol.codec import Record
from prsm.protocol.ids import Bytes32, UInt

CLOSING: Final = b"x"
CLOSINGS_KEY: Final = b"X"
FORGOTTEN_MAX: Final = 16  # jobs a block forgets: more than a busy network closes on average


class Closing(Record, frozen=True):
    """A closed job in the queue."""

    job: Bytes32


class Closings(Record, frozen=True):
    """Numbers of the first job in the queue and of the next one to close."""

    first: UInt
    next: UInt


def closing_key(number: int) -> bytes:
    """Key of a `Closing`."""
    return CLOSING + number.to_bytes(8, "big")


def note_closed(state: State, job: bytes) -> None:
    """Put a job that has just closed at the end of the queue."""
    queue = state.read(CLOSINGS_KEY, Closings) or Closings(first=0, next=0)
    state.write(closing_key(queue.next), Closing(job=job))
    state.write(CLOSINGS_KEY, Closings(first=queue.first, next=queue.next + 1))


def forget_jobs(state: State, *, time_ms: int, keep_ms: int) -> None:
    """Forget the jobs at the front whose deadline is so long past; after all else of a block."""
    queue = state.read(CLOSINGS_KEY, Closings)
    if queue is None:
        return
    first = queue.first
    while first < min(queue.next, queue.first + FORGOTTEN_MAX):
        closing = state.read(closing_key(first), Closing)
        assert closing is not None, "a gap in the queue of closed jobs"
        job = state.read(job_key(closing.job), Job)
        assert job is not None, "a job forgotten before its turn"
        assert not job.is_open
        if time_ms <= job.deadline_ms + keep_ms:
            break
        for unit, spec in enumerate(job.units):
            for worker in spec.workers:
                state.delete(fault_key(worker, job.job, unit))
        state.delete(job_key(job.job))
        state.delete(closing_key(first))
        first += 1
    if first != queue.first:
        state.write(CLOSINGS_KEY, Closings(first=first, next=queue.next))
