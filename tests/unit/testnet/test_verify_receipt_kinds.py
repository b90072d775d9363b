"""The standalone verifier derives what the ledger paid, for every kind of work and of ending."""

import json
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from nacl.exceptions import BadSignatureError

from prsm.consensus.ledger.records import job_key
from prsm.protocol.codec import encode
from prsm.protocol.genesis import Parameters, to_json
from prsm.protocol.merkle import node_hash
from prsm.protocol.proofs import pairs_hash
from prsm.protocol.receipts import WorkKind, sign_feed, sign_receipt
from prsm.protocol.signing import sha256
from prsm.protocol.transactions.audits import Finding
from prsm.protocol.transactions.payloads import Lock, Rates
from prsm.protocol.transactions.results import Code
from prsm.testnet import verify_receipt
from prsm.testnet.chain import FTNS, Chain, signer_of, small_genesis
from prsm.testnet.jobs import (
    REQUESTER,
    Work,
    commit_of,
    document_of,
    lock_of,
    open_job,
    settle_by,
    settle_of,
    unit_of,
)
from tests.tools.audited import AUDITORS, PRICE, WORKER, Scene, bound, fed

LIE = Work(WORKER, dict.fromkeys(range(3), "lie"))
Made = tuple[Chain, Lock]


def judged(chain: Chain, lock: Lock, folder: Path) -> dict[str, object]:
    genesis, path = folder / "genesis.json", folder / "receipt.json"
    genesis.write_bytes(to_json(chain.genesis))
    path.write_text(json.dumps(document_of(chain, lock)))
    return verify_receipt.Check(str(path)).run(*verify_receipt.trust_genesis(str(genesis)))


def opened(lock: Lock) -> Made:
    chain = Chain(small_genesis())
    open_job(chain, lock)
    return chain, lock


def crowded() -> Made:
    """So many accounts that the job's bucket is split, and its proof deeper than the tree."""
    balances = dict.fromkeys((*range(32, 36), *range(64, 800)), 1_000 * FTNS)
    lock = lock_of("crowded")
    chain = Chain(small_genesis(balances=balances, parameters=Parameters(tree_bits=1)))
    open_job(chain, lock)
    settle_by(chain, lock, Work(65), Work(66))
    proof = chain.ledger.prove(job_key(lock.job))
    assert len(proof.path) > 1
    return chain, lock


def audited() -> Made:
    scene = Scene().begin()
    receipt = scene.bound()
    scene.audit()
    scene.settle(receipt)
    return scene.chain, scene.lock


def by_case(work: Work | None, said: Work | None, finding: Finding) -> Made:
    scene = Scene().begin()
    receipt = scene.bound(work)
    scene.audit(said)
    scene.settle(receipt)
    scene.verdict(receipt, *[finding] * 3)
    return scene.chain, scene.lock


def undecided_case(*findings: Finding) -> Made:
    """The time is over, or all have spoken, and no two thirds agree."""
    scene = Scene().begin()
    receipt = scene.bound()
    scene.dispute(receipt)
    scene.sealed(receipt, *findings)
    for number, finding in enumerate(findings):
        scene.judge(receipt, number, finding)
    if scene.chain.ledger.view.cases():
        scene.chain.add(step_ms=300_000)
        scene.settle(receipt)
    return scene.chain, scene.lock


def open_ended() -> Made:
    unit = msgspec.structs.replace(
        unit_of(), kind=WorkKind.GENERATE, rates=Rates(row=100, cpu_ms=3, mib=2**20)
    )
    chain, lock = opened(msgspec.structs.replace(lock_of("open", unit), is_open_ended=True))
    receipts = []
    for number in (65, 66):
        made = Work(number, only=(0, 2)).receipt(chain, lock)
        short = msgspec.structs.replace(made.batches[1], rows=1)
        made = msgspec.structs.replace(made, batches=(made.batches[0], short))
        receipts.append(sign_receipt(made, signer_of(number)))
        chain.send(number, commit_of(lock, receipts[-1]))
    assert chain.send(REQUESTER, settle_of(lock, 0, receipts)).code is Code.DONE
    return chain, lock


def evaluated() -> Made:
    unit = msgspec.structs.replace(unit_of(workers=range(65, 70)), kind=WorkKind.EVALUATE)
    chain, lock = opened(lock_of("five", unit))
    works = [Work(65, {0: "x"}), *(Work(number) for number in (66, 67, 68))]
    assert settle_by(chain, lock, *works).code is Code.DONE
    return chain, lock


def spread() -> Made:
    """Two ranges of the first stage, and a second stage that was fed something else in one."""
    units = (unit_of(0, stages=2, span=(0, 1)), unit_of(0, stages=2, span=(1, 2)))
    chain, lock = opened(lock_of("spread", *units, unit_of(1, stages=2)))
    for unit in (0, 1):
        settle_by(chain, lock, Work(65), Work(66), unit=unit)
    strayed = [Work(number, flow="stray") for number in (65, 66)]
    receipts = bound(chain, lock, *strayed, unit=2)
    feeds = [fed(chain, lock, strayed[0], batch, unit=2) for batch in range(3)]
    assert chain.send(70, settle_of(lock, 2, receipts, feeds)).code is Code.DONE
    return chain, lock


def lied_to(*, is_fed: bool) -> Made:
    """The second stage is settled first, on what the liar of the first stage wrote."""
    chain, lock = opened(lock_of("lied to", unit_of(0, stages=2), unit_of(1, stages=2)))
    readers = [Work(number, flow="lie") for number in (65, 66)]
    assert settle_by(chain, lock, *readers, unit=1).code is Code.DONE
    works = [Work(65), Work(66), Work(67, dict.fromkeys(range(3), "lie"))]
    receipts = bound(chain, lock, *works)
    feeds = [fed(chain, lock, works[0], 0)] if is_fed else []
    assert chain.send(REQUESTER, settle_of(lock, 0, receipts, feeds)).code is Code.DONE
    return chain, lock


def half_fed() -> Made:
    """What the second stage was fed with is signed for other side inputs than it names."""
    chain, lock = opened(lock_of("half", unit_of(0, stages=2), unit_of(1, stages=2)))
    assert settle_by(chain, lock, Work(65), Work(66)).code is Code.DONE
    strayed = [Work(number, flow="stray") for number in (65, 66)]
    receipts = bound(chain, lock, *strayed, unit=1)
    named = [fed(chain, lock, strayed[0], batch, unit=1) for batch in range(3)]
    asked = [msgspec.structs.replace(feed, side_root=b"s" * 32) for feed in named]
    requester, chain_id = signer_of(REQUESTER), chain.genesis.chain_id
    feeds = [sign_feed(feed, requester, chain_id=chain_id) for feed in asked]
    assert chain.send(REQUESTER, settle_of(lock, 1, receipts, feeds)).code is Code.DONE
    return chain, lock


def torn() -> Made:
    chain, lock = opened(lock_of("torn"))
    works = [Work(65), Work(66, flow="b"), Work(67, flow="invented")]
    receipts = bound(chain, lock, *works)
    feeds = [fed(chain, lock, work, 0) for work in works[:2]]
    assert chain.send(70, settle_of(lock, 0, receipts, feeds)).code is Code.DONE
    return chain, lock


ENDINGS: list[tuple[str, Callable[[], Made], list[int], int]] = [
    ("audited", audited, [], 0),
    ("slashed", lambda: by_case(LIE, None, Finding.DIFFERENT), [0], 1),
    ("cleared", lambda: by_case(None, LIE, Finding.EQUAL), [0], 0),
    ("close", lambda: by_case(None, LIE, Finding.CLOSE), [0], 0),
    ("undecided case, paid by its receipt", undecided_case, [], 0),
    ("undecided case, unpaid", lambda: undecided_case(Finding.DIFFERENT), [0], 0),
    (
        "divided committee, paid",
        lambda: undecided_case(*[Finding.EQUAL] * 2, *[Finding.DIFFERENT] * 2),
        [0],
        0,
    ),
    ("open-ended, metered, rows fewer than locked", open_ended, [], 0),
    ("three of five", evaluated, [], 1),
    ("spread, fed otherwise", spread, [], 0),
    ("reader settled first, on a lie", lambda: lied_to(is_fed=False), [], 1),
    ("reader settled first, and its writer was fed", lambda: lied_to(is_fed=True), [], 1),
    ("fed with other side inputs than it names", half_fed, [], 0),
    ("torn", torn, [], 1),
    ("crowded", crowded, [], 0),
]


@pytest.mark.parametrize(
    ("make", "cases", "outvoted"), [row[1:] for row in ENDINGS], ids=[row[0] for row in ENDINGS]
)
def test_every_ending_is_verified(
    make: Callable[[], Made], cases: list[int], outvoted: int, tmp_path: Path
) -> None:
    chain, lock = make()
    summary = judged(chain, lock, tmp_path)
    assert summary["by_case"] == cases
    assert isinstance(summary["outvoted"], list)
    assert len(summary["outvoted"]) == outvoted
    job = chain.ledger.view.job(lock.job)
    assert job is not None
    paid = sum(o.paid for verdict in job.verdicts if verdict for o in verdict.opinions)
    assert isinstance(summary["payments"], list)
    workers = {"0x" + account.hex() for unit in lock.units for account in unit.workers}
    listed = {entry["account"]: int(entry["micro_ftns"]) for entry in summary["payments"]}
    assert sum(amount for account, amount in listed.items() if account in workers) == paid


def test_auditors_reward_is_the_treasurys(tmp_path: Path) -> None:
    chain, lock = audited()
    summary = judged(chain, lock, tmp_path)
    assert isinstance(summary["payments"], list)
    listed = {entry["account"]: int(entry["micro_ftns"]) for entry in summary["payments"]}
    auditors = {"0x" + signer_of(number).public_key.hex() for number in AUDITORS}
    assert sum(listed.get(account, 0) for account in auditors) == 10 * PRICE * 5 // 100


def test_feed_of_another_signer_is_refused() -> None:
    """A ledger that takes a forged feed is caught by the verifier."""
    chain, lock = torn()
    check = object.__new__(verify_receipt.Check)
    check.chain_id, check.job_id = chain.genesis.chain_id, lock.job
    requester = signer_of(REQUESTER).public_key
    for signer, is_good in ((REQUESTER, True), (71, False)):
        feed = verify_receipt.unpack(encode(fed(chain, lock, Work(65), 0, signer=signer)))
        if is_good:
            assert list(check.check_feeds(requester, 0, (feed,))) == [0]
            continue
        with pytest.raises(BadSignatureError, match="forged"):
            check.check_feeds(requester, 0, (feed,))


def test_a_record_is_found_as_deep_as_keys_can_be_ground() -> None:
    """Forty bits: as many as nobody waits for in a test, so the root is one of made-up siblings."""
    chain, lock = opened(lock_of("deep"))
    assert settle_by(chain, lock, Work(65), Work(66)).code is Code.DONE
    chain.add()
    job = job_key(lock.job)
    proof = chain.ledger.prove(job)
    deep = msgspec.structs.replace(
        proof, bucket=tuple(pair for pair in proof.bucket if pair[0] == job), path=(bytes(32),) * 40
    )
    node = pairs_hash(deep.bucket)
    for side in reversed(f"{int.from_bytes(sha256(job), 'big'):0256b}"[:40]):
        node = node_hash(bytes(32), node) if side == "1" else node_hash(node, bytes(32))
    check = object.__new__(verify_receipt.Check)
    check.job_id, check.headers = lock.job, {7: (*(None,) * 8, node)}
    shown = {"height": 7, "proofs": ["0x" + encode(deep).hex()]}
    assert check.check_state(shown)["requester"] == signer_of(REQUESTER).public_key
    check.headers = {7: (*(None,) * 8, bytes(32))}
    with pytest.raises(verify_receipt.Refused, match="not under its root"):
        check.check_state(shown)
