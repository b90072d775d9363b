"""Evaluations: who may be drawn, what counts as one, and a score that only settled roots prove."""

from collections.abc import Sequence

import msgspec
import pytest

from prsm.consensus.ledger import evaluations
from prsm.consensus.ledger.apply import Ledger
from prsm.consensus.ledger.audit_records import Pledger
from prsm.consensus.ledger.evaluations import DRAWN_MAX, DRAWS_MAX, Evaluation
from prsm.consensus.ledger.state import Reader
from prsm.protocol.codec import encode
from prsm.protocol.ed25519 import Ed25519Verifier
from prsm.protocol.headers import block_hash
from prsm.protocol.ids import Bytes32
from prsm.protocol.receipts import BatchResult, WorkKind, WorkReceipt, sign_receipt
from prsm.protocol.scores import ScoreRow, score_root
from prsm.protocol.signing import sha256
from prsm.protocol.transactions.audits import Pledge, Redeem
from prsm.protocol.transactions.evaluations import Draw, RecordScore, SliceScore
from prsm.protocol.transactions.payloads import Halt, Lock, RegisterModel, Unit
from prsm.protocol.transactions.registry import RegisterDataset
from prsm.protocol.transactions.results import Code
from prsm.testnet.chain import Chain, signer_of, small_genesis
from prsm.testnet.jobs import REQUESTER, Work, commit_of, lock_of, settle_of, unit_of

PUBLISHER = 65
CANDIDATES = (66, 67, 68, 69, 70, 71)
MODEL = bytes.fromhex("01551220") + b"m" * 32
DATASET = bytes.fromhex("01551220") + b"d" * 32
ROWS = (4, 4, 2)
JOB = Bytes32(sha256(b"evaluation"))
CORRECT = (4, 3, 0)


def key(number: int) -> Bytes32:
    return signer_of(number).public_key


@pytest.fixture
def chain() -> Chain:
    """Model and dataset are registered, workers, publisher and requester are pledged."""
    made = Chain(small_genesis())
    made.send(PUBLISHER, RegisterModel(MODEL, "digits", "1.0.0", bytes(32), 9, ()))
    named = RegisterDataset(DATASET, "digits-test", "1.0.0", bytes(32), 9, sum(ROWS), 0, ())
    assert made.send(PUBLISHER, named).code is Code.DONE
    least = max(1, made.ledger.parameters.pledge_min)
    for account in (*CANDIDATES, PUBLISHER, REQUESTER):
        assert made.send(account, Pledge(least)).code is Code.DONE
    return made


def drawn(chain: Chain, job: bytes = JOB) -> tuple[bytes, ...]:
    found = chain.ledger.view.evaluation(job)
    return () if found is None else found.drawn or ()


def ask(chain: Chain, job: bytes = JOB) -> tuple[int, ...]:
    """Draw evaluators; numbers of their keys."""
    assert chain.send(REQUESTER, Draw(Bytes32(job), MODEL, DATASET)).code is Code.DONE
    assert drawn(chain, job) == ()
    chain.add()
    by_key = {key(number): number for number in CANDIDATES}
    return tuple(by_key[Bytes32(each)] for each in drawn(chain, job))


def unit(workers: tuple[int, ...]) -> Unit:
    made = unit_of(workers=workers, model=MODEL, span=(0, len(ROWS)))
    return msgspec.structs.replace(made, kind=WorkKind.EVALUATE)


def lock(*units: Unit, rows: tuple[int, ...] = ROWS) -> Lock:
    return msgspec.structs.replace(lock_of("x", *units, rows=rows), job=JOB)


def slices(correct: tuple[int, ...] = CORRECT) -> tuple[SliceScore, ...]:
    return tuple(SliceScore(Bytes32(bytes([i]) * 32), n) for i, n in enumerate(correct))


def receipt_of(
    chain: Chain, terms: Lock, worker: int, correct: tuple[int, ...] = CORRECT
) -> WorkReceipt:
    """What a worker states that found so many right."""
    plain = Work(worker).receipt(chain, terms)
    parts = slices(correct + (0,) * (len(terms.batch_rows) - len(correct)))
    batches = tuple(
        BatchResult(
            index=batch.index,
            rows=batch.rows,
            input_root=batch.input_root,
            side_root=batch.side_root,
            output_root=score_root(
                part.outputs, ScoreRow(DATASET, batch.index, batch.rows, part.correct)
            ),
        )
        for batch, part in zip(plain.batches, parts, strict=False)
    )
    return sign_receipt(msgspec.structs.replace(plain, batches=batches), signer_of(worker))


def settle(chain: Chain, terms: Lock, correct: tuple[int, ...] = CORRECT) -> None:
    """Lock the job, let its first two workers agree, settle."""
    assert chain.send(REQUESTER, terms).code is Code.DONE
    numbers = {key(number): number for number in range(64, 80)}
    workers = [numbers[Bytes32(worker)] for worker in terms.units[0].workers[:2]]
    receipts = [receipt_of(chain, terms, worker, correct) for worker in workers]
    chain.add(
        *(
            chain.order(worker, commit_of(terms, receipt))
            for worker, receipt in zip(workers, receipts, strict=True)
        )
    )
    result = chain.send(REQUESTER, settle_of(terms, 0, receipts))
    assert result.code is Code.DONE, result


def test_a_settled_evaluation_is_recorded_with_its_score(chain: Chain) -> None:
    terms = lock(unit(ask(chain)[:3]))
    assert chain.send(70, RecordScore(JOB, slices())).code is Code.UNKNOWN_JOB
    settle(chain, terms)
    for forged in (slices((4, 4, 0)), slices((3, 4, 0)), slices()[::-1], slices()[:2]):
        assert chain.send(70, RecordScore(JOB, forged)).code is Code.BAD_SCORE
    assert chain.ledger.view.scores(MODEL) == []
    assert chain.send(70, RecordScore(JOB, slices())).code is Code.DONE
    (score,) = chain.ledger.view.scores(MODEL)
    assert (score.correct, score.total, score.draws, score.recorded) == (7, 10, 1, 1)
    assert (score.dataset, score.job, score.height) == (DATASET, JOB, chain.ledger.height)
    assert chain.send(70, RecordScore(JOB, slices())).code is Code.NO_CHANGE


@pytest.mark.parametrize("correct", [(5, 3, 0), (4, 3, 3), (1_000_000,) * 3])
def test_no_slice_has_more_right_rows_than_rows(chain: Chain, correct: tuple[int, ...]) -> None:
    """Two drawn workers who collude agree on anything; the score must still be one."""
    terms = lock(unit(ask(chain)[:3]))
    settle(chain, terms, correct)
    assert chain.send(70, RecordScore(JOB, slices(correct))).code is Code.BAD_SCORE
    assert chain.ledger.view.scores(MODEL) == []


def halt(chain: Chain, cid: bytes, *, lift: bool = False) -> None:
    for operator in (32, 33, 34):
        assert chain.send(operator, Halt(cid, lift, "court order")).code is Code.DONE
    assert chain.ledger.view.halted(cid) is not lift


@pytest.mark.parametrize("cid", [MODEL, DATASET], ids=["model", "dataset"])
def test_what_is_halted_after_the_draw_is_not_locked(chain: Chain, cid: bytes) -> None:
    terms = lock(unit(ask(chain)[:3]))
    halt(chain, cid)
    assert chain.send(REQUESTER, terms).code is Code.MODEL_HALTED
    halt(chain, cid, lift=True)
    assert chain.send(REQUESTER, terms).code is Code.DONE


@pytest.mark.parametrize("cid", [MODEL, DATASET], ids=["model", "dataset"])
def test_what_is_halted_after_the_lock_is_paid_and_has_no_score(chain: Chain, cid: bytes) -> None:
    """Who worked before the halt did nothing wrong; its result is not spread."""
    terms = lock(unit(ask(chain)[:3]))
    settle(chain, terms)
    halt(chain, cid)
    assert chain.send(70, RecordScore(JOB, slices())).code is Code.MODEL_HALTED
    assert chain.ledger.view.scores(MODEL) == []
    halt(chain, cid, lift=True)
    assert chain.send(70, RecordScore(JOB, slices())).code is Code.DONE


def test_the_draw_leaves_out_those_concerned_and_those_who_came_late(chain: Chain) -> None:
    first = ask(chain)
    assert len(first) == DRAWN_MAX
    assert set(first) <= set(CANDIDATES)
    late = 35  # an operator, for once as a worker
    assert chain.send(late, Pledge(max(1, chain.ledger.parameters.pledge_min))).code is Code.DONE
    by_key = {key(number): number for number in (*CANDIDATES, late)}
    assert tuple(by_key[Bytes32(each)] for each in drawn(chain)) == first
    orders: set[tuple[int, ...]] = {first}
    for i in range(6):
        job = sha256(b"again", bytes([i]))
        assert chain.send(REQUESTER, Draw(Bytes32(job), MODEL, DATASET)).code is Code.DONE
        chain.add()
        orders.add(tuple(by_key[Bytes32(each)] for each in drawn(chain, job)))
    assert len(orders) > 3  # each block draws anew
    assert any(late in order for order in orders)


@pytest.mark.parametrize("change", ["kind", "model", "workers", "rows", "part", "open", "stages"])
def test_a_job_that_is_not_the_whole_evaluation_by_those_drawn_is_none(
    chain: Chain, change: str
) -> None:
    three = ask(chain)[:3]
    stranger = next(number for number in CANDIDATES if number not in ask_numbers(chain))
    good = unit(three)
    terms = {
        "kind": lock(msgspec.structs.replace(good, kind=WorkKind.INFER)),
        "model": lock(msgspec.structs.replace(good, model=DATASET)),
        "workers": lock(unit((*three[:2], stranger))),
        "rows": lock(good, rows=(4, 4, 1)),
        "part": lock(msgspec.structs.replace(good, count=2), rows=ROWS),
        "open": msgspec.structs.replace(lock(good), is_open_ended=True),
        "stages": lock(msgspec.structs.replace(good, stages=2)),
    }[change]
    settle(chain, terms)
    assert chain.send(70, RecordScore(JOB, slices())).code is Code.NOT_AS_DRAWN


def test_a_worker_that_leaves_cannot_take_the_score_with_it(chain: Chain) -> None:
    """Or one who is drawn and dislikes the result would redeem its pledge, and nobody records."""
    three = ask(chain)[:3]
    terms = lock(unit(three))
    settle(chain, terms)
    before = drawn(chain)
    least = max(1, chain.ledger.parameters.pledge_min)
    for worker in three:
        assert chain.send(worker, Redeem(least)).code is Code.DONE
    assert drawn(chain) == before
    assert chain.send(70, RecordScore(JOB, slices())).code is Code.DONE


def test_all_who_were_drawn_may_do_the_work(chain: Chain) -> None:
    terms = lock(msgspec.structs.replace(unit(ask(chain)), needed=3))
    assert chain.send(REQUESTER, terms).code is Code.DONE
    workers = [number for number in CANDIDATES if key(number) in terms.units[0].workers]
    receipts = [receipt_of(chain, terms, worker) for worker in workers]
    bound = [commit_of(terms, receipt) for receipt in receipts]
    chain.add(*(chain.order(who, what) for who, what in zip(workers, bound, strict=True)))
    assert chain.send(REQUESTER, settle_of(terms, 0, receipts)).code is Code.DONE
    assert chain.send(70, RecordScore(JOB, slices())).code is Code.DONE


def ask_numbers(chain: Chain) -> set[int]:
    by_key = {key(number): number for number in CANDIDATES}
    return {by_key[Bytes32(each)] for each in drawn(chain)}


def test_draw_is_made_by_the_seed_of_the_specification(chain: Chain) -> None:
    """docs/spec/ledger.md, "Draw": of the network, the block that asked, and the job."""
    ask(chain)
    parent = block_hash(chain.made[-2].block.header)
    seed = sha256(encode(("work.evaluation", chain.genesis.chain_id, parent, JOB)))
    order = sorted((key(number) for number in CANDIDATES), key=lambda each: sha256(seed, each))
    assert drawn(chain) == tuple(order[:DRAWN_MAX])


def test_evaluations_are_listed_for_who_asked(chain: Chain) -> None:
    assert chain.ledger.view.evaluations(key(REQUESTER)) == []
    ask(chain)
    (found,) = chain.ledger.view.evaluations(key(REQUESTER))
    assert (found.model, found.dataset, found.requester) == (MODEL, DATASET, key(REQUESTER))
    assert chain.ledger.view.evaluations(key(PUBLISHER)) == []


def test_an_unsettled_evaluation_has_no_score(chain: Chain) -> None:
    terms = lock(unit(ask(chain)[:3]))
    assert chain.send(REQUESTER, terms).code is Code.DONE
    assert chain.send(70, RecordScore(JOB, slices())).code is Code.UNDECIDED


def test_draws_are_refused_for_what_is_not_registered_halted_or_asked_twice(chain: Chain) -> None:
    good = Draw(JOB, MODEL, DATASET)
    for model, dataset in ((DATASET, DATASET), (MODEL, MODEL), (MODEL[:-1] + b"?", DATASET)):
        wrong = Draw(JOB, model, dataset)
        assert chain.send(REQUESTER, wrong).code is Code.UNKNOWN_MANIFEST
    locked = lock_of("locked")
    assert chain.send(REQUESTER, locked).code is Code.DONE
    taken = Draw(locked.job, MODEL, DATASET)
    assert chain.send(REQUESTER, taken).code is Code.JOB_EXISTS
    assert chain.send(REQUESTER, good).code is Code.DONE
    assert chain.send(REQUESTER, good).code is Code.JOB_EXISTS
    for operator in (32, 33, 34):
        chain.send(operator, Halt(cid=DATASET, lift=False, reason=""))
    again = Draw(Bytes32(b"n" * 32), MODEL, DATASET)
    assert chain.send(REQUESTER, again).code is Code.MODEL_HALTED


def test_a_block_makes_a_bounded_number_of_draws(chain: Chain) -> None:
    first = chain.ledger.view.nonce(key(REQUESTER))
    orders = [
        chain.order(REQUESTER, Draw(Bytes32(sha256(bytes([i]))), MODEL, DATASET), nonce=first + i)
        for i in range(DRAWS_MAX + 1)
    ]
    codes = [receipt.code for receipt in chain.add(*orders).receipts()]
    assert codes == [Code.DONE] * DRAWS_MAX + [Code.TOO_MANY_DRAWS]
    chain.add()
    assert drawn(chain, sha256(bytes([DRAWS_MAX - 1])))


def test_draws_are_made_once_however_often_the_next_block_is_looked_at(
    chain: Chain, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Proposing, judging and rehearsing share them; who looks but once finds the same."""
    jobs = [Bytes32(sha256(bytes([i]))) for i in range(3)]
    first = chain.ledger.view.nonce(key(REQUESTER))
    asked = [
        chain.order(REQUESTER, Draw(job, MODEL, DATASET), nonce=first + i)
        for i, job in enumerate(jobs)
    ]
    chain.add(*asked)
    ledger = chain.ledger
    twin = Ledger(chain.genesis, dict(ledger._state), verifier=Ed25519Verifier(), tip=ledger.tip)
    made: list[bytes] = []
    honest = evaluations._drawn

    def count(
        reader: Reader, listed: Sequence[Pledger], evaluation: Evaluation, seed: bytes
    ) -> tuple[bytes, ...]:
        made.append(evaluation.job)
        return honest(reader, listed, evaluation, seed)

    monkeypatch.setattr(evaluations, "_drawn", count)
    payment = chain.order(70, Pledge(1))
    later = ledger.tip.time_ms + 1_000
    for time_ms in (later, later + 1_000):
        ledger.select([payment], time_ms=time_ms, bytes_max=10_000, count_max=9)
        ledger.select_evidence([b""], time_ms=time_ms, proposer=0)
        ledger.rehearse(ledger.admission.check(payment), time_ms=time_ms)
    block = chain.propose(payment)
    for _ in range(2):
        assert ledger.judge(block, wall_ms=None) is None
    assert made == jobs
    assert ledger.apply(block).changes == twin.apply(block).changes
    made.clear()
    chain.add(payment)
    assert all(len(drawn(chain, job)) == DRAWN_MAX for job in jobs)
    ask(chain)
    assert made == [JOB]  # of the next tip anew
