"""A quorum that lies: every validator signs what the receipts do not support.

The verifier derives payments from the workers' own signatures, so even a document under good
certificates is refused when the ledger behind it did not keep its rules. `Story` makes such
documents: an honest one, with one thing in it told otherwise.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import msgspec
import pytest

from prsm.consensus.ledger.payout import split
from prsm.consensus.ledger.records import (
    Job,
    JobStatus,
    Opinion,
    Verdict,
    job_key,
)
from prsm.consensus.ledger.tally import tally
from prsm.consensus.ledger.tree import Tree
from prsm.protocol import merkle
from prsm.protocol.codec import encode
from prsm.protocol.genesis import to_json
from prsm.protocol.headers import Header
from prsm.protocol.receipts import WorkReceipt, receipt_hash, sign_receipt
from prsm.protocol.signing import sha256
from prsm.protocol.transactions.envelope import Transaction
from prsm.protocol.transactions.payloads import SETTLE, Settle
from prsm.protocol.transactions.results import Code, Payment, TxReceipt
from prsm.testnet import verify_receipt
from prsm.testnet.chain import Chain, signer_of, small_genesis
from prsm.testnet.jobs import Work, lock_of, unit_of

LOCK = lock_of("lied", unit_of(0, stages=2), unit_of(1, stages=2))
CHAIN = Chain(small_genesis())
STATE_HEIGHT = 20
T = TypeVar("T", bound=msgspec.Struct)
Fields = dict[str, object]
Json = dict[str, object]
WORKS = ((Work(65), Work(66)), (Work(65), Work(66, {0: "x"}), Work(67)))


@dataclass
class Story:
    """An honest settlement of two stages; fields given change what unit 0 is told to be."""

    works: Sequence[Sequence[Work]] = WORKS
    receipt: Fields = field(default_factory=dict)  # of its second receipt
    signs: int | None = 66  # who signs that again, if anybody
    verdict: Fields = field(default_factory=dict)
    opinion: Fields = field(default_factory=dict)  # the first
    job: Fields = field(default_factory=dict)
    settle: Fields = field(default_factory=dict)
    order: Fields = field(default_factory=dict)
    outcome: Fields = field(default_factory=dict)
    header: Fields = field(default_factory=dict)  # of the state
    headers: list[Json] = field(default_factory=list)
    state: dict[bytes, bytes] = field(default_factory=dict)

    def tell(self) -> Json:
        """The document, under certificates of all four validators."""
        job = new_job()
        told = [self.unit(job, unit, works) for unit, works in enumerate(self.works)]
        record = changed(job, {"verdicts": tuple(verdict for verdict, _, _ in told)} | self.job)
        keys = [job_key(LOCK.job), *self.state]
        self.state[job_key(LOCK.job)] = encode(record)
        tree = Tree(8, self.state.items())
        self.sign(STATE_HEIGHT, {"state_root": tree.root} | self.header)
        amounts: dict[bytes, int] = {}
        for payment in (payment for _, _, payments in told for payment in payments):
            amounts[payment.account] = amounts.get(payment.account, 0) + payment.amount
        return {
            "version": 3,
            "chain_id": text(CHAIN.genesis.chain_id),
            "genesis_digest": text(CHAIN.genesis.digest),
            "epoch": 0,
            "epochs": [],
            "validators": [
                {
                    "operator": text(member.operator),
                    "consensus": text(member.consensus),
                    "peer_id": member.peer_id,
                    "stake": str(member.stake),
                }
                for member in CHAIN.genesis.validators
            ],
            "job": text(LOCK.job),
            "headers": self.headers,
            "settlements": [entry for _, entry, _ in told],
            "state": {
                "height": STATE_HEIGHT,
                "proofs": [text(encode(tree.prove(key))) for key in keys],
            },
            "payments": [
                {"account": text(account), "micro_ftns": str(amount)}
                for account, amount in sorted(amounts.items())
            ],
        }

    def sign(self, height: int, fields: Fields) -> None:
        """A header no ledger made, under the signatures of all validators."""
        header: Header = changed(CHAIN.propose().header, {"height": height} | fields)
        certificate = text(encode(CHAIN.certify(header)))
        self.headers.append({"header": text(encode(header)), "certificate": certificate})

    def unit(
        self, job: Job, unit: int, works: Sequence[Work]
    ) -> tuple[Verdict, Json, tuple[Payment, ...]]:
        """Settle a unit: what the record, the document and the accounts say of it."""
        receipts = [work.receipt(CHAIN, LOCK, unit) for work in works]
        if unit == 0:
            receipts[1] = self.second(receipts[1])
        verdict, paid = judged(job, unit, receipts)
        payload = Settle(job=LOCK.job, unit=unit, receipts=tuple(map(encode, receipts)), feeds=())
        told = self if unit == 0 else Story()
        order = Transaction(
            version=1,
            chain_id=CHAIN.genesis.chain_id,
            kind=SETTLE,
            sender=bytes(32),
            nonce=0,
            fee=77,
            payload=encode(changed(payload, told.settle)),
            valid_until_ms=9,
            signature=bytes(64),
        )
        raw = encode(changed(order, told.order))
        outcome = TxReceipt(
            tx=sha256(raw), code=Code.DONE, fee=77, paid=paid, returned=verdict.returned, detail=3
        )
        became = encode(changed(outcome, told.outcome))
        self.sign(verdict.height, {"tx_root": merkle.root([raw])})
        self.sign(verdict.height + 1, {"receipts_root": merkle.root([became])})
        first = changed(verdict.opinions[0], told.opinion)
        verdict = changed(verdict, {"opinions": (first, *verdict.opinions[1:])} | told.verdict)
        paths: Json = {"transaction_path": [], "receipt_path": []}
        shown = {"transaction": text(raw), "receipt": text(became)}
        return verdict, {"unit": unit, "height": 10 + 2 * unit} | shown | paths, paid

    def second(self, receipt: WorkReceipt) -> WorkReceipt:
        receipt = changed(receipt, self.receipt)
        return receipt if self.signs is None else sign_receipt(receipt, signer_of(self.signs))


def changed(record: T, fields: Fields) -> T:
    return msgspec.structs.replace(record, **fields)


def text(raw: bytes) -> str:
    return "0x" + raw.hex()


def new_job() -> Job:
    return Job(
        job=LOCK.job,
        requester=bytes(32),
        tenant=b"",
        asset=0,
        parent=None,
        depth=1,
        batch_rows=LOCK.batch_rows,
        units=LOCK.units,
        shares=(),
        treasury_bps=500,
        deadline_ms=9,
        opened_height=0,
        status=JobStatus.SETTLED,
        locked=0,
        budget=0,
        children=0,
        verdicts=(),
        is_open_ended=False,
    )


def judged(
    job: Job, unit: int, receipts: Sequence[WorkReceipt]
) -> tuple[Verdict, tuple[Payment, ...]]:
    """What a ledger that believes everything would record of these receipts."""
    known = [receipt for receipt in receipts if all(b.index < 3 for b in receipt.batches)]
    right = tally(known, job.units[unit]) or {b.index: b.stated for b in receipts[0].batches}
    opinions, gross = [], []
    for receipt in receipts:
        rows = sum(batch.rows for batch in receipt.batches)
        wrong = sum(batch.stated != right.get(batch.index % 3) for batch in receipt.batches)
        amount = 0 if wrong else rows * receipt.price_per_row
        gross.append(amount)
        opinions.append(
            Opinion(
                worker=receipt.worker,
                receipt_hash=receipt_hash(receipt),
                committed_height=2,
                rows=rows,
                wrong=wrong,
                paid=amount - amount * 500 // 10_000,
            )
        )
    verdict = Verdict(
        height=10 + 2 * unit,
        decided=len(right),
        inputs=bytes(32),
        outputs=bytes(32),
        opinions=tuple(opinions),
        returned=job.reserve(unit) - sum(gross),
        auditor=None,
        reward=0,
    )
    return verdict, split(job, opinions, gross)


def judge(document: Json, folder: Path) -> dict[str, object]:
    genesis, path = folder / "genesis.json", folder / "receipt.json"
    genesis.write_bytes(to_json(CHAIN.genesis))
    path.write_text(json.dumps(document))
    return verify_receipt.Check(str(path)).run(*verify_receipt.trust_genesis(str(genesis)))


def test_honest_story_is_believed(tmp_path: Path) -> None:
    """Else the lies below would be refused for another reason."""
    summary = judge(Story().tell(), tmp_path)
    assert summary["verified"] is True
    assert summary["outvoted"] == [{"worker": text(signer_of(66).public_key), "unit": 1}]


RIGHT = Work(66).receipt(CHAIN, LOCK)
LIES: list[tuple[str, Story, str]] = [
    ("record of an open job", Story(job={"status": JobStatus.OPEN}), "not settled"),
    ("foreign header", Story(header={"chain_id": bytes(8)}), "foreign chain"),
    ("header of another epoch", Story(header={"epoch": 1}), "another validator set"),
    ("header of another set", Story(header={"validators_hash": bytes(32)}), "another validator"),
    ("another chain's order", Story(order={"chain_id": bytes(8)}), "another transaction"),
    ("another kind of order", Story(order={"kind": 6}), "another transaction"),
    ("settles another job", Story(settle={"job": bytes(32)}), "another transaction"),
    ("settles another unit", Story(settle={"unit": 1}), "another transaction"),
    ("settled at another height", Story(verdict={"height": 9}), "out of order"),
    ("a failed outcome", Story(outcome={"code": Code.UNDECIDED}), "paid something else"),
    ("another transaction's outcome", Story(outcome={"tx": bytes(32)}), "paid something else"),
    ("another fee", Story(outcome={"fee": 1}), "paid something else"),
    ("nobody paid", Story(outcome={"paid": ()}), "paid something else"),
    ("less returned", Story(outcome={"returned": 0}), "less than the rest"),
    ("a smaller rest", Story(verdict={"returned": 0}, outcome={"returned": 0}), "not the rest"),
    ("another opinion recorded", Story(opinion={"paid": 1}), "something else of the workers"),
    ("other terms: price", Story(receipt={"price_per_row": 10**6}), "other terms"),
    ("other terms: job", Story(receipt={"job": bytes(32)}), "other terms"),
    ("other terms: model", Story(receipt={"model": bytes(36)}), "other terms"),
    ("other terms: stage", Story(receipt={"stage": 1}), "other terms"),
    ("a stranger", Story(receipt={"worker": signer_of(70).public_key}, signs=70), "no worker"),
    ("unsigned", Story(receipt={"signature": bytes(64)}, signs=None), "Signature was forged"),
    ("signed by another", Story(receipt={"class_id": bytes(32)}, signs=None), "forged"),
    ("committed too late", Story(opinion={"committed_height": 10}), "not committed"),
    ("committed by another", Story(opinion={"worker": bytes(32)}), "not committed"),
    ("of an older escrow", Story(job={"opened_height": 9}), "older escrow"),
    ("another count of batches", Story(verdict={"decided": 2}), "else of the batches"),
    (
        "a worker twice",
        Story(((Work(65), Work(65)), WORKS[1]), receipt={"class_id": bytes(32)}, signs=65),
        "two receipts",
    ),
    ("two differ", Story(works=((Work(65), Work(66, {0: "x"})), WORKS[1])), "too few equal"),
    (
        "a batch nobody did",
        Story(works=((Work(65, only=(0,)), Work(66, only=(0,))), WORKS[1])),
        "too few",
    ),
    (
        "more rows",
        Story(receipt={"batches": (changed(RIGHT.batches[0], {"rows": 99}), *RIGHT.batches[1:])}),
        "batches",
    ),
    (
        "a batch twice",
        Story(receipt={"batches": (RIGHT.batches[0], *RIGHT.batches)}),
        "other batches",
    ),
    (
        "a batch too many",
        Story(receipt={"batches": (*RIGHT.batches, changed(RIGHT.batches[0], {"index": 3}))}),
        "batches",
    ),
    (
        "stages that do not chain",
        Story(works=(WORKS[0], (Work(65, flow="y"), Work(66, flow="y")))),
        "did not read",
    ),
]


@pytest.mark.parametrize(("story", "why"), [lie[1:] for lie in LIES], ids=[lie[0] for lie in LIES])
def test_no_quorum_makes_a_lie_true(story: Story, why: str, tmp_path: Path) -> None:
    document = story.tell()
    with pytest.raises(Exception, match=why):
        judge(document, tmp_path)


def second(document: Json, name: str, change: Callable[[list[Json]], None]) -> Json:
    listed = document[name]
    assert isinstance(listed, list)
    change(listed)
    return document


def respelled(certificate: str, position: int, other: bytes) -> str:
    """Replace one byte of a certificate by another spelling of its value."""
    raw = bytes.fromhex(certificate[2:])
    return text(raw[:position] + other + raw[position + 1 :])


def test_certificates_have_one_spelling(tmp_path: Path) -> None:
    """[version, kind, epoch 0, height, view 0, ...]: epoch stands at byte 3, view at byte 5."""
    for position, other in ((3, b"\xc2"), (3, b"\xcc\x00"), (5, b"\xc2"), (5, b"\xcc\x00")):
        document = Story().tell()

        def respell(headers: list[Json], position: int = position, other: bytes = other) -> None:
            headers[-1]["certificate"] = respelled(str(headers[-1]["certificate"]), position, other)

        with pytest.raises(verify_receipt.Refused, match=r"another (spelling|form)"):
            judge(second(document, "headers", respell), tmp_path)


def test_signers_beyond_the_set_are_refused(tmp_path: Path) -> None:
    document = Story().tell()
    header = CHAIN.propose().header
    certificate = CHAIN.certify(header)

    def widen(headers: list[Json]) -> None:
        raw = bytes.fromhex(str(headers[-1]["certificate"])[2:])
        at = raw.index(encode(certificate.signers) + b"\x94")
        headers[-1]["certificate"] = text(raw[:at] + b"\x1f" + raw[at + 1 :])

    with pytest.raises(verify_receipt.Refused, match="outside the set"):
        judge(second(document, "headers", widen), tmp_path)


def test_stakes_have_one_spelling(tmp_path: Path) -> None:
    for spelling in (" 100000000", "0100000000", "1_00000000", "+100000000"):
        document = Story().tell()
        listed = document["validators"]
        assert isinstance(listed, list)
        listed[0]["stake"] = spelling
        with pytest.raises(verify_receipt.Refused, match="stake in another spelling"):
            judge(document, tmp_path)


def test_genesis_digest_must_be_that_of_the_chain_id_even_under_a_trusted_set(
    tmp_path: Path,
) -> None:
    document = Story().tell() | {"genesis_digest": text(bytes(32))}
    path = tmp_path / "receipt.json"
    path.write_text(json.dumps(document))
    trusted = CHAIN.genesis.first_validators().digest
    with pytest.raises(verify_receipt.Refused, match="another genesis"):
        verify_receipt.Check(str(path)).run(None, 0, trusted)


def test_state_entries_stand_once_and_settlements_are_complete(tmp_path: Path) -> None:
    document = Story().tell()
    state = document["state"]
    assert isinstance(state, dict)
    state["proofs"].append(state["proofs"][-1])
    with pytest.raises(verify_receipt.Refused, match="proofs nobody needs"):
        judge(document, tmp_path)
    document = second(Story().tell(), "settlements", lambda settlements: settlements.clear())
    with pytest.raises(verify_receipt.Refused, match="without its settlement"):
        judge(document, tmp_path)
