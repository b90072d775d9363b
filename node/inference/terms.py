"""What this node does for others, and whether a locked job meets it."""

from dataclasses import dataclass

import trio

from prsm.consensus.ledger.records import Job
from prsm.node.inference.interface import (
    Chain,
    Halted,
    JobClosed,
    JobFacts,
    NotNamed,
    PriceTooLow,
    UnknownJob,
)
from prsm.node.inference.quotes import Asked, honoured_price
from prsm.protocol.ed25519 import Verifier
from prsm.protocol.errors import BadSignature, Unsupported
from prsm.protocol.ids import PeerId
from prsm.protocol.limits import MIB
from prsm.protocol.messages.models import Shard
from prsm.protocol.messages.work import Open, open_statement
from prsm.protocol.receipts import WorkKind
from prsm.protocol.transactions.payloads import Unit


@dataclass(slots=True)
class Terms:
    """What this node does for others, and how much at one time.

    One object of a node, read at each opening; `WorkOffer` alone changes price and units at once.

    Attributes:
        price_per_row: micro-FTNS asked for a row of one stage.
        memory_bytes: one child may take; 0: not said.
        units_max: units worked on at one time; each of 200 requesters may hold two tabs.
        units_per_peer_max: of one requester; a pipeline of 32 stages may ask that many.
        bytes_max: inputs waiting here, and as many of outputs, of all requesters.
        bytes_per_peer_max: of one.
        credit: micro-batches of a unit that may be without an answer.
        tab_credit: the same of an open-ended lock: its requests come from many.
        claim_ms: before its deadline an open-ended unit takes no more, and is claimed.
        lock_wait_s: how long a lock may take to appear on our ledger.
    """

    price_per_row: int = 0
    memory_bytes: int = 0
    units_max: int = 512
    units_per_peer_max: int = 32
    bytes_max: int = 512 * MIB
    bytes_per_peer_max: int = 256 * MIB
    credit: int = 4
    tab_credit: int = 16
    claim_ms: int = 120_000
    lock_wait_s: float = 10.0


async def wait_lock(chain: Chain, job_id: bytes, *, within_s: float) -> Job:
    """Return a job once our own ledger has its lock: the requester's may be a block ahead.

    Raises:
        UnknownJob: it has none in that time.
    """
    with trio.move_on_after(within_s):
        while (job := chain.job(job_id)) is None:
            await chain.wait_height(chain.height() + 1)
        return job
    raise UnknownJob(
        f"no lock of job {job_id.hex()[:16]} within {within_s:g} s",
        hint="wait until the lock is committed",
    )


def check_caller(
    message: Open, job: Job, peer: PeerId, *, chain: Chain, verifier: Verifier
) -> None:
    """Is it the account that locked the job who asks, from this peer?

    Raises:
        BadSignature: it did not sign this opening.
    """
    statement = open_statement(message, chain_id=chain.chain_id, requester_peer=peer)
    if not verifier.verify(job.requester, statement, message.signature):
        raise BadSignature("the account that locked the job did not sign this", peer=peer)


def check_terms(
    message: Open,
    job: Job,
    *,
    chain: Chain,
    terms: Terms,
    kind: WorkKind = WorkKind.INFER,
    quote: bytes = b"",
) -> None:
    """Does the lock name us for this unit, is it open, and does it pay what we ask?

    Args:
        message: the opening.
        job: as locked.
        chain: our own account and ledger.
        terms: of this node.
        kind: of work that is asked for.
        quote: canonical bytes of a quote of ours that came with it, or nothing.

    Raises:
        WorkRefused: which of these does not hold.
        WireError: the quote is none.
        Unsupported: work of a kind this node cannot do.
    """
    if message.unit >= len(job.units):
        raise UnknownJob(f"unit {message.unit}, the job has {len(job.units)}")
    spec = job.units[message.unit]
    if message.worker != chain.address or chain.address not in spec.workers:
        raise NotNamed("the lock does not name this node for that unit")
    if not job.is_open or job.verdicts[message.unit] is not None:
        raise JobClosed("the unit is settled or its escrow is closed")
    if chain.block_time_ms() >= job.deadline_ms:
        raise JobClosed(f"the deadline {job.deadline_ms} has passed in block time")
    if chain.is_halted(spec.model):
        raise Halted(f"model {spec.model.hex()[:16]} is halted on the ledger")
    if spec.price_per_row < terms.price_per_row:
        asked = Asked(
            spec.model, spec.stages, sum(job.batch_rows[spec.first : spec.first + spec.count])
        )
        bound = honoured_price(quote, chain=chain, requester=job.requester, asked=asked)
        if bound is None or spec.price_per_row < bound:
            raise PriceTooLow(
                f"{spec.price_per_row} micro-FTNS a row, this node asks {terms.price_per_row}",
                hint="ask for a quote: prsm quote MODEL",
            )
    if spec.kind != kind:
        raise Unsupported(
            f"this asks for work of kind {kind.name.lower()}, the unit is of kind "
            f"{spec.kind.name.lower()}",
            hint=f"lock units of kind {kind.name.lower()}",
        )


def find_shard(shards: tuple[Shard, ...], spec: Unit) -> Shard:
    """The shard a unit asks for.

    Raises:
        NotNamed: the manifest has no such stage.
    """
    for shard in shards:
        if (shard.stages, shard.index) == (spec.stages, spec.stage):
            return shard
    raise NotNamed(f"the model has no stage {spec.stage} of {spec.stages}")


def facts_of(job: Job, spec: Unit) -> JobFacts:
    """What a policy is told of a unit."""
    return JobFacts(
        job=job.job,
        tenant=job.tenant,
        requester=job.requester,
        kind=spec.kind,
        model=spec.model,
        rows=job.rows,
    )
