"""The small rules: transfer, model registry, halts, evidence."""

import msgspec
import pytest

from prsm.consensus.ledger.context import HaltChanged, Punished, Registered
from prsm.consensus.ledger.errors import meaning, refusal
from prsm.consensus.ledger.kinds import RULES
from prsm.protocol.codec import encode
from prsm.protocol.genesis import TREASURY
from prsm.protocol.headers import block_hash
from prsm.protocol.messages.consensus import Proposal, SignedMessage, sign_message
from prsm.protocol.signing import Kind
from prsm.protocol.transactions.evidence import condense, evidence_of
from prsm.protocol.transactions.payloads import PAYLOADS, Evidence, Halt, RegisterModel, Transfer
from prsm.protocol.transactions.results import Code
from prsm.testnet.chain import FTNS, Chain, altered, signer_of, small_genesis


@pytest.fixture
def chain() -> Chain:
    return Chain(small_genesis())


def key(number: int) -> bytes:
    return signer_of(number).public_key


def cid(number: int) -> bytes:
    return bytes.fromhex("01551220") + number.to_bytes(32, "big")


def transfer(to: int, amount: int, asset: int = 0) -> Transfer:
    return Transfer(asset=asset, to=key(to), amount=amount, memo=b"")


def test_every_payload_has_a_rule_and_every_code_a_meaning() -> None:
    assert sorted(RULES) == [number for number, _ in PAYLOADS.items()]
    for code in Code:
        assert bool(meaning(code)) is (code is not Code.DONE)
        assert code is Code.DONE or code.name.lower() in refusal(code).what


def test_transfer_moves_the_amount_and_costs_the_fee(chain: Chain) -> None:
    view = chain.ledger.view
    before, treasury = view.account(key(64)), view.account(TREASURY)
    receipt = chain.send(64, transfer(90, 7 * FTNS))
    assert receipt.code is Code.DONE
    assert view.account(key(64)) == before - 7 * FTNS - receipt.fee
    assert view.account(key(90)) == 7 * FTNS
    assert view.account(TREASURY) == treasury + receipt.fee
    assert view.nonce(key(64)) == 1


def test_transfer_to_oneself_costs_the_fee_only(chain: Chain) -> None:
    before = chain.ledger.view.account(key(64))
    receipt = chain.send(64, transfer(64, 7 * FTNS))
    assert receipt.code is Code.DONE
    assert chain.ledger.view.account(key(64)) == before - receipt.fee


@pytest.mark.parametrize(
    ("amount", "asset", "code"),
    [(10**12, 0, Code.INSUFFICIENT_FUNDS), (1, 7, Code.UNKNOWN_ASSET)],
)
def test_failed_transfer_costs_its_fee_and_nonce(
    chain: Chain, amount: int, asset: int, code: Code
) -> None:
    before = chain.ledger.view.account(key(64))
    receipt = chain.send(64, transfer(90, amount, asset))
    assert receipt.code is code
    assert chain.ledger.view.account(key(64)) == before - receipt.fee
    assert chain.ledger.view.account(key(90)) == 0
    assert chain.ledger.view.nonce(key(64)) == 1


def test_emptied_account_leaves_no_balance_entry(chain: Chain) -> None:
    fee = 10_000
    all_of_it = chain.ledger.view.account(key(64)) - fee
    [receipt] = chain.add(chain.order(64, transfer(90, all_of_it), fee=fee)).receipts()
    assert receipt.code is Code.DONE
    assert chain.ledger.view.account(key(64)) == 0
    assert (b"a" + key(64) + bytes(4), None) in chain.made[-1].outcome.changes


def model(
    number: int, name: str = "minilm", semver: str = "1.0.0", **changes: object
) -> RegisterModel:
    payload = RegisterModel(
        manifest=cid(number),
        name=name,
        semver=semver,
        pinned_sha256=bytes(32),
        total_bytes=9,
        parents=(),
    )
    return msgspec.structs.replace(payload, **changes)


def test_registered_model_is_found_by_name_and_by_manifest(chain: Chain) -> None:
    assert chain.send(64, model(1)).code is Code.DONE
    assert chain.made[-1].outcome.events == (Registered(cid(1), "minilm", "1.0.0"),)
    found = chain.ledger.view.model("minilm", "1.0.0")
    assert found is not None
    assert found == chain.ledger.view.model_by_cid(cid(1))
    assert (found.publisher, found.height, found.total_bytes) == (key(64), 1, 9)
    assert chain.send(64, model(2, semver="1.1.0-rc.1+b5", parents=(cid(1),))).code is Code.DONE
    assert [m.semver for m in chain.ledger.view.models()] == ["1.0.0", "1.1.0-rc.1+b5"]
    assert chain.ledger.view.model("minilm", "9.9.9") is None


@pytest.mark.parametrize(
    ("sender", "payload", "code"),
    [
        (64, model(1, semver="1.0.1"), Code.MODEL_EXISTS),
        (64, model(2), Code.VERSION_EXISTS),
        (65, model(2, semver="1.0.1"), Code.NAME_TAKEN),
        (65, model(2, name="min ilm"), Code.BAD_NAME),
        (65, model(2, name="mïnilm"), Code.BAD_NAME),
        (65, model(2, name="minilm\n"), Code.BAD_NAME),
        (65, model(2, name="other", semver="1.0.x"), Code.BAD_NAME),
        (65, model(2, name="other", semver="01.0.0"), Code.BAD_NAME),
        (65, model(2, name="other", parents=(cid(7),)), Code.UNKNOWN_PARENT),
        (65, model(9, name="other"), Code.MODEL_HALTED),
    ],
)
def test_register_refuses(chain: Chain, sender: int, payload: RegisterModel, code: Code) -> None:
    chain.send(64, model(1))
    for operator in (32, 33, 34):
        chain.send(operator, vote(9))
    assert chain.send(sender, payload).code is code
    assert len(chain.ledger.view.models()) == 1


def vote(number: int, *, lift: bool = False) -> Halt:
    return Halt(cid=cid(number), lift=lift, reason="unsafe")


def test_halt_needs_two_thirds_of_the_stake_and_so_does_lifting(chain: Chain) -> None:
    view = chain.ledger.view
    assert chain.send(64, vote(1)).code is Code.NOT_OPERATOR
    assert chain.send(32, vote(1, lift=True)).code is Code.NOTHING_TO_VOTE
    assert chain.send(32, vote(1)).code is Code.DONE
    assert chain.send(32, vote(1)).code is Code.ALREADY_VOTED
    assert chain.send(33, vote(1)).code is Code.DONE
    assert not view.halted(cid(1))
    assert chain.send(34, vote(1)).code is Code.DONE
    assert view.halted(cid(1))
    assert chain.made[-1].outcome.events == (HaltChanged(cid(1), halted=True),)
    assert not view.halted(cid(2))
    assert chain.send(35, vote(1)).code is Code.NOTHING_TO_VOTE
    for operator in (32, 33, 34):
        assert view.halted(cid(1))
        assert chain.send(operator, vote(1, lift=True)).code is Code.DONE
    assert not view.halted(cid(1))


def test_halt_needs_no_more_than_its_share() -> None:
    parameters = msgspec.structs.replace(small_genesis().parameters, halt_bps=7_500)
    chain = Chain(small_genesis(parameters=parameters))
    for operator, is_halted in ((32, False), (33, False), (34, True)):
        assert chain.send(operator, vote(1)).code is Code.DONE
        assert chain.ledger.view.halted(cid(1)) is is_halted


def test_halt_counts_stake_not_heads() -> None:
    genesis = small_genesis(stakes=(70 * FTNS, 10 * FTNS, 10 * FTNS, 10 * FTNS))
    chain = Chain(genesis)
    for operator in (33, 34, 35):
        chain.send(operator, vote(1))
    assert not chain.ledger.view.halted(cid(1))
    chain.send(32, vote(1))
    assert chain.ledger.view.halted(cid(1))


def message(
    chain: Chain, kind: Kind, body: bytes, signer: int = 2, **changes: int
) -> SignedMessage:
    places = {"epoch": 0, "height": 5, "view": 1, "signer": signer} | changes
    unsigned = SignedMessage(kind=kind, body=body, signature=bytes(64), **places)
    return sign_message(unsigned, signer_of(signer), chain.genesis.chain_id)


def double(chain: Chain, kind: Kind = Kind.COMMIT, **changes: int) -> Evidence:
    return evidence_of(
        message(chain, kind, b"x" * 32, **changes), message(chain, kind, b"y" * 32, **changes)
    )


def test_evidence_slashes_once_for_a_height(chain: Chain) -> None:
    view = chain.ledger.view
    before, treasury = view.account(key(64)), view.account(TREASURY)
    receipt = chain.send(64, double(chain))
    assert receipt.code is Code.DONE
    assert view.bond(key(34)) == 90 * FTNS
    assert view.account(key(64)) == before - receipt.fee + FTNS // 2
    assert view.account(TREASURY) == treasury + receipt.fee + 10 * FTNS - FTNS // 2
    assert view.supply().bonded == 390 * FTNS
    assert chain.made[-1].outcome.events == (Punished(key(34), 10 * FTNS),)
    [conviction] = view.double_votes(key(34))
    assert (conviction.voted_height, conviction.penalty) == (5, 10 * FTNS)
    assert chain.send(65, double(chain, Kind.PREPARE)).code is Code.ALREADY_PUNISHED
    assert chain.send(65, double(chain, height=6)).code is Code.DONE
    assert view.bond(key(34)) == 81 * FTNS
    assert view.bond(key(64)) == 0


def test_evidence_of_two_proposals_carries_hashes_only(chain: Chain) -> None:
    first = chain.propose()
    second = altered(first, time_ms=first.header.time_ms + 1)
    sent = [
        message(chain, Kind.PROPOSE, encode(Proposal(block=block, new_view=None)))
        for block in (first, second)
    ]
    evidence = evidence_of(*sent)
    assert evidence == evidence_of(*reversed(sent))
    assert {evidence.first.body, evidence.second.body} == {
        block_hash(first.header),
        block_hash(second.header),
    }
    assert len(encode(evidence)) < 400
    assert chain.send(64, evidence).code is Code.DONE


def test_evidence_that_convicts_nobody_is_refused(chain: Chain) -> None:
    good = double(chain)
    other_height = message(chain, Kind.COMMIT, b"y" * 32, height=6)
    other_signer = message(chain, Kind.COMMIT, b"y" * 32, signer=1)
    other_kind = message(chain, Kind.PREPARE, b"y" * 32)
    forged = msgspec.structs.replace(good.second, signature=good.first.signature)
    long_body = msgspec.structs.replace(good.second, body=good.second.body + b"z")
    view_changes = [condense(message(chain, Kind.VIEW_CHANGE, body)) for body in (b"a", b"b")]
    low, high = sorted(view_changes, key=lambda entry: entry.body)
    cases = [
        Evidence(first=good.first, second=good.first),
        Evidence(first=good.second, second=good.first),
        *(
            Evidence(first=good.first, second=bad)
            for bad in (other_height, other_signer, other_kind)
        ),
        Evidence(first=good.first, second=forged),
        Evidence(first=good.first, second=long_body),
        Evidence(first=low, second=high),
        double(chain, epoch=2),
    ]
    stranger = [msgspec.structs.replace(entry, signer=4) for entry in (good.first, good.second)]
    cases.append(Evidence(first=stranger[0], second=stranger[1]))
    for evidence in cases:
        assert chain.send(64, evidence).code is Code.BAD_EVIDENCE
    assert chain.ledger.view.bond(key(34)) == 100 * FTNS


def test_evidence_in_a_block_pays_the_proposers_operator(chain: Chain) -> None:
    evidence = encode(double(chain))
    before = chain.ledger.view.account(key(32))
    picked = chain.ledger.select_evidence(
        [b"junk", evidence, evidence], time_ms=chain.ledger.tip.time_ms + 1, proposer=0
    )
    assert picked == (evidence,)
    chain.add(evidence=picked)
    assert chain.ledger.view.account(key(32)) == before + FTNS // 2
    for bad, what in ((evidence, "already_punished"), (b"junk", "canonical")):
        reason = chain.ledger.judge(chain.propose(evidence=[bad]), wall_ms=None)
        assert reason is not None
        assert what in reason


def test_evidence_in_a_block_is_bounded(chain: Chain) -> None:
    many = [encode(double(chain, height=height)) for height in range(1, 20)]
    picked = chain.ledger.select_evidence(many, time_ms=chain.ledger.tip.time_ms + 1, proposer=0)
    assert picked == tuple(many[:16])


def test_tiny_penalty_has_no_reward() -> None:
    poor = Chain(small_genesis(stakes=(1, 1, 1, 1)))
    receipt = poor.send(64, double(poor))
    assert (receipt.code, receipt.paid) == (Code.DONE, ())
