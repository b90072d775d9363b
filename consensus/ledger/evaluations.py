"""Evaluations: who is drawn for one, and the score that its settled roots prove.

A draw is asked for in one block and made by the hash of that block, which its sender does not know
yet; candidates are the workers who were pledged before. A score is recorded from a settled unit
alone: its slices' roots must give the verdict's. Source: docs/spec/ledger.md, "Evaluations".
"""

from collections.abc import Sequence
from heapq import nsmallest
from typing import Annotated, Final

import msgspec

from prsm.consensus.ledger.audit_records import Pledger
from prsm.consensus.ledger.context import DONE, Context, Effect
from prsm.consensus.ledger.errors import Failed
from prsm.consensus.ledger.halts import is_halted
from prsm.consensus.ledger.pledges import pledgers
from prsm.consensus.ledger.records import Job, job_key
from prsm.consensus.ledger.releases import Dataset, Release, dataset_key, release_of
from prsm.consensus.ledger.state import Reader, State, read
from prsm.protocol import merkle
from prsm.protocol.codec import Record, encode
from prsm.protocol.ids import U32, Bytes32, UInt
from prsm.protocol.messages.models import CidBytes
from prsm.protocol.receipts import WorkKind
from prsm.protocol.scores import ScoreRow, score_root
from prsm.protocol.signing import sha256
from prsm.protocol.transactions.evaluations import Draw, RecordScore
from prsm.protocol.transactions.payloads import Unit
from prsm.protocol.transactions.results import Code

EVALUATION, SCORE = b"z", b"Y"
ASKED_KEY: Final = b"Q"
DRAWN_MAX: Final = 5  # of the seeded order: three work, two may be away
NEEDED_MIN: Final = 2
DRAWS_MAX: Final = 16  # asked for in one block: each hashes all who are pledged, half a millisecond


class Evaluation(Record, frozen=True):
    """Evaluators that were asked for; it stays, so that no id is used twice."""

    job: Bytes32
    requester: Bytes32
    model: CidBytes
    dataset: CidBytes
    asked_height: UInt
    # In the order of the draw, for good: who leaves later takes no score with it. None until the
    # block after.
    drawn: Annotated[tuple[Bytes32, ...], msgspec.Meta(max_length=DRAWN_MAX)] | None
    is_recorded: bool


class Asked(Record, frozen=True):
    """Evaluations whose evaluators the next block draws."""

    jobs: Annotated[tuple[Bytes32, ...], msgspec.Meta(max_length=DRAWS_MAX)]


class Score(Record, frozen=True):
    """What evaluations of a model on a dataset found; the last one counts."""

    model: CidBytes
    dataset: CidBytes
    draws: U32  # asked for: many more than were recorded is a publisher who picks
    recorded: U32
    correct: UInt
    total: UInt  # 0: none was recorded yet
    job: Bytes32  # of the last one
    height: UInt


def evaluation_key(job: bytes) -> bytes:
    """Key of an `Evaluation`."""
    return EVALUATION + job


def score_key(model: bytes, dataset: bytes) -> bytes:
    """Key of a `Score`."""
    return SCORE + model + dataset


def draw(state: State, payload: Draw, context: Context) -> Effect:
    """Ask for evaluators of a registered model on a registered dataset."""
    keys = (evaluation_key(payload.job), job_key(payload.job))
    if any(state.get(key) is not None for key in keys):
        raise Failed(Code.JOB_EXISTS)
    _require(state, payload.model, "model")
    _require(state, payload.dataset, "dataset")
    _refuse_halted(state, payload.model, payload.dataset)
    asked = state.read(ASKED_KEY, Asked)
    jobs = () if asked is None else asked.jobs
    if len(jobs) == DRAWS_MAX:
        raise Failed(Code.TOO_MANY_DRAWS)
    state.write(ASKED_KEY, Asked((*jobs, payload.job)))
    state.write(
        evaluation_key(payload.job),
        Evaluation(
            job=payload.job,
            requester=context.sender,
            model=payload.model,
            dataset=payload.dataset,
            asked_height=context.height,
            drawn=None,
            is_recorded=False,
        ),
    )
    score = read_score(state, payload.model, payload.dataset)
    counted = msgspec.structs.replace(score, draws=score.draws + 1)
    state.write(score_key(payload.model, payload.dataset), counted)
    return DONE


def draws_of(reader: Reader, *, chain_id: bytes, parent: bytes) -> tuple[Evaluation, ...]:
    """The draws the last block asked for; of a tip always the same, so they are made once.

    Args:
        reader: the state after that block.
        chain_id: of the network.
        parent: hash of the block that asked.
    """
    asked = read(reader, ASKED_KEY, Asked)
    if asked is None:
        return ()
    listed = pledgers(reader)
    made = []
    for job in asked.jobs:
        found = read_evaluation(reader, job)
        assert found is not None, "a draw nobody asked for"
        seed = sha256(encode(("work.evaluation", chain_id, parent, job)))
        drawn = _drawn(reader, listed, found, seed)
        made.append(msgspec.structs.replace(found, drawn=drawn))
    return tuple(made)


def note_draws(state: State, draws: Sequence[Evaluation]) -> None:
    """Write down the draws of `draws_of`; before anything else of a block."""
    for made in draws:
        state.write(evaluation_key(made.job), made)
    if draws:
        state.delete(ASKED_KEY)


def record_score(state: State, payload: RecordScore, context: Context) -> Effect:
    """Note the score of a settled evaluation."""
    evaluation = read_evaluation(state, payload.job)
    job = state.read(job_key(payload.job), Job)
    if evaluation is None or job is None:
        raise Failed(Code.UNKNOWN_JOB)
    if evaluation.is_recorded:
        raise Failed(Code.NO_CHANGE)
    if not _is_as_drawn(state, evaluation, job):
        raise Failed(Code.NOT_AS_DRAWN)
    _refuse_halted(state, evaluation.model, evaluation.dataset)
    verdict = job.verdicts[0]
    if verdict is None:
        raise Failed(Code.UNDECIDED)
    correct = _correct(payload, evaluation, job, outputs=verdict.outputs)
    score = read_score(state, evaluation.model, evaluation.dataset)
    state.write(
        score_key(evaluation.model, evaluation.dataset),
        msgspec.structs.replace(
            score,
            recorded=score.recorded + 1,
            correct=correct,
            total=job.rows,
            job=job.job,
            height=context.height,
        ),
    )
    kept = msgspec.structs.replace(evaluation, is_recorded=True)
    state.write(evaluation_key(evaluation.job), kept)
    return DONE


def read_evaluation(reader: Reader, job: bytes) -> Evaluation | None:
    """What was asked for under an id."""
    return read(reader, evaluation_key(job), Evaluation)


def read_score(reader: Reader, model: bytes, dataset: bytes) -> Score:
    """What was found so far; without rows if nothing was."""
    found = read(reader, score_key(model, dataset), Score)
    if found is not None:
        return found
    return Score(
        model=model,
        dataset=dataset,
        draws=0,
        recorded=0,
        correct=0,
        total=0,
        job=bytes(32),
        height=0,
    )


def _drawn(
    reader: Reader, listed: Sequence[Pledger], evaluation: Evaluation, seed: bytes
) -> tuple[bytes, ...]:
    """Accounts that may work on an evaluation, in the order of the draw.

    Not the requester, nor who published model or dataset. Who is pledged later is no candidate,
    so nobody makes an account for a seed it knows.
    """
    barred = {evaluation.requester}
    for manifest in (evaluation.model, evaluation.dataset):
        release = release_of(reader, manifest)
        barred |= set() if release is None else {release.publisher}
    before = evaluation.asked_height
    able = [each.account for each in listed if each.since < before and each.account not in barred]
    return tuple(nsmallest(DRAWN_MAX, able, key=lambda worker: sha256(seed, worker)))


def _require(state: State, manifest: bytes, subject: str) -> Release:
    release = release_of(state, manifest)
    if release is None or release.subject != subject:
        raise Failed(Code.UNKNOWN_MANIFEST)
    return release


def _refuse_halted(state: State, model: bytes, dataset: bytes) -> None:
    if is_halted(state, model) or is_halted(state, dataset):
        raise Failed(Code.MODEL_HALTED)


def _is_as_drawn(state: State, evaluation: Evaluation, job: Job) -> bool:
    """Is the job one unit over the whole dataset, by those who were drawn?"""
    dataset = read(state, dataset_key(evaluation.dataset), Dataset)
    assert dataset is not None, "a draw for a dataset that is not registered"
    if job.requester != evaluation.requester or len(job.units) != 1 or job.is_open_ended:
        return False
    unit = job.units[0]
    if not _is_whole(unit, evaluation, len(job.batch_rows)) or job.rows != dataset.rows:
        return False
    return set(unit.workers) <= set(evaluation.drawn or ())


def _is_whole(unit: Unit, evaluation: Evaluation, slices: int) -> bool:
    place = (unit.kind, unit.model, unit.stages, unit.stage, unit.first, unit.count)
    wanted = (WorkKind.EVALUATE, evaluation.model, 1, 0, 0, slices)
    return place == wanted and unit.needed >= NEEDED_MIN


def _correct(payload: RecordScore, evaluation: Evaluation, job: Job, *, outputs: bytes) -> int:
    """Right rows of all slices, if the shown parts give the root that was settled."""
    if len(payload.slices) != len(job.batch_rows):
        raise Failed(Code.BAD_SCORE)
    shown = list(zip(payload.slices, job.batch_rows, strict=True))
    if any(part.correct > rows for part, rows in shown):
        raise Failed(Code.BAD_SCORE)
    roots = [
        score_root(part.outputs, ScoreRow(evaluation.dataset, index, rows, part.correct))
        for index, (part, rows) in enumerate(shown)
    ]
    if merkle.root(roots) != outputs:
        raise Failed(Code.BAD_SCORE)
    return sum(part.correct for part in payload.slices)
