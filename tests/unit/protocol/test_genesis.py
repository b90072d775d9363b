"""The genesis document: one digest whatever its spelling, and everything wrong is named."""

import hashlib
import json
from collections.abc import Callable

import msgspec
import pytest

from prsm.protocol.genesis import (
    GENESIS_VERSION,
    TREASURY,
    Allocation,
    BadGenesis,
    Parameters,
    check,
    from_json,
    to_json,
)
from prsm.testnet.chain import FTNS, signer_of, small_genesis

Document = dict[str, object]
GENESIS = small_genesis()


def test_json_is_read_back_and_its_spacing_does_not_matter() -> None:
    raw = to_json(GENESIS)
    assert from_json(raw) == GENESIS
    dense = json.dumps(json.loads(raw), indent=None).encode()
    assert from_json(dense).digest == GENESIS.digest
    assert to_json(from_json(dense)) == raw


def test_chain_id_is_the_beginning_of_the_digest() -> None:
    assert GENESIS.chain_id == GENESIS.digest[:8]
    assert GENESIS.minted == 400 * FTNS + 12_000 * FTNS
    other = small_genesis(parameters=Parameters(tree_bits=9))
    assert other.digest != GENESIS.digest


def test_stake_above_the_cap_is_not_counted() -> None:
    capped = small_genesis(
        stakes=(70, 10, 10, 10), parameters=Parameters(tree_bits=8, operator_cap=20)
    )
    assert [v.stake for v in capped.first_validators().validators] == [20, 10, 10, 10]


def test_nobody_has_the_key_of_the_treasury() -> None:
    assert hashlib.sha256(b"prsm1 treasury").digest() == TREASURY
    assert TREASURY not in {signer_of(i).public_key for i in range(100)}


CHANGES: list[tuple[Callable[[Document], object], str]] = [
    (lambda d: d.pop("name"), "name"),
    (lambda d: d.update(note=1), "note"),
    (lambda d: d.update(version=2), "a network of version 2, .* the rules of 3"),
    (lambda d: d.update(version=4), "a network of version 4, .* the rules of 3"),
    (lambda d: d.update(time_ms=-1), "no genesis"),
    (lambda d: d.update(name=""), "no genesis"),
    (lambda d: d.update(validators=[]), "no genesis"),
    (lambda d: d.update(parameters={}), "epoch_ms"),
    (lambda d: part(d, "parameters").update(speed=9), "speed"),
    (lambda d: part(d, "parameters").update(timeout_cap_ms=300), "timeout_cap_ms is below"),
    (lambda d: part(d, "parameters").update(tree_bits=21), "no genesis"),
    (lambda d: part(d, "parameters").update(unbonding_ms=60_000), "1 epochs of epoch_ms"),
    (lambda d: part(d, "parameters").update(operator_cap=0), "no genesis"),
    (lambda d: part(d, "parameters").update(case_window_ms=2**63 - 1), "<= 2592000000"),
    (lambda d: part(d, "parameters").update(unbonding_ms=2**63 - 1), "<= 31536000000"),
    (lambda d: part(d, "parameters").update(transaction_ms_max=0), ">= 900000"),
    (lambda d: part(d, "parameters").update(fee_base=2**63 - 1), "<= 1000000"),
    (lambda d: part(d, "parameters").update(slash_bps=5_001), "<= 5000"),
    (lambda d: part(d, "parameters").update(audit_bond_multiple=0), ">= 1"),
    (lambda d: part(d, "parameters").update(economic=5), "no genesis"),
    (lambda d: part(d, "parameters").update(fee_base={"quorum_bps": 1}), "fee_base.threshold_bps"),
    (lambda d: rules(d).pop("voting_ms"), "economic.voting_ms"),
    (lambda d: rules(d).update(veto=1), "economic.veto"),
    (lambda d: rules(d).update(threshold_bps=4_999), "no genesis"),
    (lambda d: first(d, "validators").update(stake="0"), "no genesis"),
    (lambda d: first(d, "validators").update(stake="many"), "no genesis"),
    (lambda d: first(d, "validators").update(operator="0x00"), "operator key"),
    (lambda d: first(d, "validators").update(operator=operator_of(d, 1)), "share one operator"),
    (lambda d: first(d, "validators").update(peer_id="peer1"), "share one peer id"),
    (lambda d: first(d, "validators").update(stake=str(2**62)), "no genesis"),
    (lambda d: first(d, "allocations").update(amount=str(10**18)), "at genesis"),
    (lambda d: first(d, "allocations").update(amount="-1"), "no genesis"),
]


def part(document: Document, name: str) -> Document:
    found = document[name]
    assert isinstance(found, dict)
    return found


def rules(document: Document) -> Document:
    return part(part(document, "parameters"), "economic")


def first(document: Document, name: str) -> Document:
    found = document[name]
    assert isinstance(found, list)
    entry = found[0]
    assert isinstance(entry, dict)
    return entry


def operator_of(document: Document, index: int) -> object:
    found = document["validators"]
    assert isinstance(found, list)
    return found[index]["operator"]


@pytest.mark.parametrize(("change", "what"), CHANGES)
def test_wrong_document_is_refused_and_says_why(
    change: Callable[[Document], object], what: str
) -> None:
    document: Document = json.loads(to_json(GENESIS))
    change(document)
    with pytest.raises(BadGenesis, match=what):
        from_json(json.dumps(document).encode())


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d.update(time_ms=2**63 - 1),
        lambda d: part(d, "parameters").update(transaction_ms_max=0),
        lambda d: part(d, "parameters").update(speed=9),
        lambda d: part(d, "parameters").pop("case_deposit"),
    ],
)
def test_document_of_older_rules_says_so_whatever_bounds_it_breaks(
    change: Callable[[Document], object],
) -> None:
    document: Document = json.loads(to_json(GENESIS))
    document["version"] = GENESIS_VERSION - 1
    change(document)
    with pytest.raises(BadGenesis, match="a network of version 2") as refused:
        from_json(json.dumps(document).encode())
    assert refused.value.hint is not None
    assert "prsm destroy" in refused.value.hint


@pytest.mark.parametrize("raw", [b"", b"{", b"[]", b"\xff", b"null"])
def test_bytes_that_are_no_document_are_refused(raw: bytes) -> None:
    with pytest.raises(BadGenesis):
        from_json(raw)


def test_shared_accounts_and_keys_are_refused() -> None:
    account = Allocation(account=bytes(32), amount=1)
    twice = msgspec.structs.replace(GENESIS, allocations=(account, account))
    with pytest.raises(BadGenesis, match="share one account"):
        check(twice)
    one, two, *rest = GENESIS.validators
    shared = msgspec.structs.replace(two, consensus=one.consensus)
    with pytest.raises(BadGenesis, match="share one consensus"):
        check(msgspec.structs.replace(GENESIS, validators=(one, shared, *rest)))


@pytest.mark.parametrize("stake", [2**63, 2**64, 10**40])
def test_number_no_wire_carries_is_a_bad_genesis(stake: int) -> None:
    raw = to_json(small_genesis()).replace(b'"stake": "', b'"stake": "%d' % stake, 1)
    with pytest.raises(BadGenesis):
        from_json(raw)
