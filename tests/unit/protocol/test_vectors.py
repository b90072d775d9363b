"""The golden bytes of the wire, read by other code than that which wrote them."""

import hashlib
import json
from functools import cache
from pathlib import Path
from typing import Final

import msgpack
import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from prsm.protocol import merkle
from prsm.protocol.certificates import Certificate, check_certificate
from prsm.protocol.codec import Record, decode, encode
from prsm.protocol.ed25519 import Ed25519Verifier
from prsm.protocol.genesis import Genesis, from_json, to_json
from prsm.protocol.headers import Body, Header, block_hash
from prsm.protocol.messages.table import MESSAGES
from prsm.protocol.proofs import StateProof, proven_value
from prsm.protocol.receipts import WorkReceipt, is_signed, receipt_hash
from prsm.protocol.signing import Kind, statement
from prsm.protocol.transactions.conditions import Approval, Hold, hold_id, is_approved
from prsm.protocol.transactions.envelope import decode_transaction, transaction_id
from prsm.protocol.transactions.envelope import is_signed as is_transaction_signed
from prsm.protocol.transactions.governance import Propose, proposal_id
from prsm.protocol.transactions.membership import Join, has_possession
from prsm.protocol.transactions.payloads import PAYLOADS
from prsm.protocol.transactions.results import Code, TxReceipt

FOLDER: Final = Path(__file__).parents[2] / "vectors"
Json = dict[str, object]


@cache
def vectors(name: str) -> Json:
    found: Json = json.loads((FOLDER / name).read_text())
    return found


def part(*path: str) -> Json:
    found: object = vectors("wire.json")
    for step in path:
        assert isinstance(found, dict)
        found = found[step]
    assert isinstance(found, dict)
    return found


def text(found: Json, name: str) -> str:
    value = found[name]
    assert isinstance(value, str)
    return value


def packed(value: object) -> bytes:
    """Pack a plain value with msgpack alone: 0x texts are bytes, lists arrays."""

    def back(item: object) -> object:
        if isinstance(item, list):
            return [back(inner) for inner in item]
        if isinstance(item, str) and item.startswith("0x"):
            return bytes.fromhex(item[2:])
        return item

    raw: bytes = msgpack.packb(back(value))
    return raw


def check_record(cls: type[Record], found: Json) -> Record:
    """Both packers give the bytes; the class reads them and keeps its fields in their order."""
    raw = bytes.fromhex(text(found, "hex"))
    record = decode(raw, cls, size_max=len(raw))
    assert encode(record) == raw == packed(found["value"])
    assert found["name"] == cls.__name__
    assert found["fields"] == [field.name for field in msgspec.structs.fields(cls)]
    return record


@pytest.mark.parametrize(("number", "cls"), MESSAGES.items())
def test_every_message_has_its_golden_bytes(number: int, cls: type[Record]) -> None:
    """A missing one: run scripts/wire_vectors.py; a changed one is a protocol change."""
    check_record(cls, part("messages", str(number)))


@pytest.mark.parametrize(("number", "cls"), PAYLOADS.items())
def test_every_transaction_kind_has_its_golden_bytes(number: int, cls: type[Record]) -> None:
    check_record(cls, part("payloads", str(number)))
    found = part("transactions", str(number))
    raw = bytes.fromhex(text(found, "hex"))
    transaction = decode_transaction(raw)
    assert (transaction.kind, transaction.nonce) == (number, number)
    assert transaction_id(raw).hex() == hashlib.sha256(raw).hexdigest() == found["id"]
    assert is_transaction_signed(transaction, Ed25519Verifier())


def test_no_golden_bytes_are_left_over() -> None:
    """A number once used is never free again; taking one away is a protocol change."""
    for name, registry in (("messages", MESSAGES), ("payloads", PAYLOADS)):
        assert sorted(map(int, part(name))) == [number for number, _ in registry.items()]
    assert part("codes") == {code.name: int(code) for code in Code}


def test_genesis_digest_is_that_of_the_document() -> None:
    found = part("genesis")
    genesis = from_json(text(found, "json").encode())
    assert encode(genesis).hex() == found["hex"]
    assert genesis.digest.hex() == found["digest"]
    assert genesis.chain_id.hex() == found["chain_id"] == text(found, "digest")[:16]
    assert genesis.first_validators().digest.hex() == found["validators_hash"]
    assert to_json(genesis).decode() == found["json"]
    raw = bytes.fromhex(text(found, "hex"))
    assert decode(raw, Genesis, size_max=len(raw)) == genesis


def test_signed_statements_are_62_bytes_and_hold() -> None:
    found = part("signed")
    statements = found["statements"]
    assert isinstance(statements, list)
    assert [entry["kind"] for entry in statements] == [int(kind) for kind in Kind]
    for entry in statements:
        raw = bytes.fromhex(entry["hex"])
        assert raw == statement(
            b"chain-id",
            Kind(entry["kind"]),
            epoch=1,
            height=2**40,
            view=3,
            digest=bytes(range(32)),
        )
        assert len(raw) == 62
        key, signature = bytes.fromhex(text(found, "public_key")), bytes.fromhex(entry["signature"])
        assert Ed25519Verifier().verify(key, raw, signature)
        Ed25519PublicKey.from_public_bytes(key).verify(signature, raw)


def test_header_certificate_and_receipt_are_what_their_hashes_say() -> None:
    found, genesis = part("chain"), from_json(text(part("genesis"), "json").encode())
    header = check_record(Header, part("chain", "header"))
    assert isinstance(header, Header)
    assert block_hash(header).hex() == found["block_hash"]
    raw = bytes.fromhex(text(found, "body_hex"))
    body = decode(raw, Body, size_max=len(raw))
    assert merkle.root(body.transactions) == header.tx_root
    certificate = check_record(Certificate, part("chain", "certificate"))
    assert isinstance(certificate, Certificate)
    assert certificate.block_hash.hex() == found["block_hash"]
    check_certificate(
        certificate,
        genesis.first_validators(),
        chain_id=genesis.chain_id,
        verifier=Ed25519Verifier(),
        kind=Kind.COMMIT,
    )
    receipt = check_record(WorkReceipt, part("chain", "work_receipt"))
    assert isinstance(receipt, WorkReceipt)
    assert is_signed(receipt, Ed25519Verifier())
    assert receipt_hash(receipt).hex() == found["work_receipt_hash"]
    check_record(TxReceipt, part("chain", "tx_receipt"))


def test_hold_is_named_by_its_terms_and_approved_by_signature() -> None:
    found = part("conditions")
    hold = check_record(Hold, part("conditions", "hold"))
    chain_id, holder = bytes.fromhex(text(found, "chain_id")), bytes.fromhex(text(found, "holder"))
    assert isinstance(hold, Hold)
    terms = part("conditions", "hold")["value"]
    named = packed(["0x" + chain_id.hex(), "0x" + holder.hex(), terms])
    assert hashlib.sha256(b"prsm1hd" + named).hexdigest() == found["hold_id"]
    identity = bytes.fromhex(text(found, "hold_id"))
    assert hold_id(chain_id, holder, hold) == identity
    signed = b"prsm1ap" + packed(["0x" + chain_id.hex(), "0x" + identity.hex(), 0])
    assert signed.hex() == found["approval_statement"]
    approval = check_record(Approval, part("conditions", "approval"))
    assert isinstance(approval, Approval)
    Ed25519PublicKey.from_public_bytes(approval.key).verify(approval.signature, signed)
    assert is_approved(approval, Ed25519Verifier(), chain_id=chain_id, hold=identity, branch=0)


def test_new_key_signs_for_its_operator() -> None:
    found = part("membership")
    join = check_record(Join, part("membership", "join"))
    assert isinstance(join, Join)
    chain_id, operator = (bytes.fromhex(text(found, name)) for name in ("chain_id", "operator"))
    named = packed(["0x" + raw.hex() for raw in (chain_id, operator, join.consensus)])
    assert (b"prsm1pk" + named).hex() == found["possession_statement"]
    Ed25519PublicKey.from_public_bytes(join.consensus).verify(join.possession, b"prsm1pk" + named)
    verifier = Ed25519Verifier()
    assert has_possession(join, chain_id=chain_id, operator=operator, verifier=verifier)
    assert not has_possession(join, chain_id=bytes(8), operator=operator, verifier=verifier)


def test_proposal_is_named_by_its_terms() -> None:
    found = part("governance")
    proposal = check_record(Propose, part("governance", "proposal"))
    assert isinstance(proposal, Propose)
    chain_id, proposer = (bytes.fromhex(text(found, name)) for name in ("chain_id", "proposer"))
    terms = part("governance", "proposal")["value"]
    named = packed(["0x" + chain_id.hex(), "0x" + proposer.hex(), terms])
    assert hashlib.sha256(b"prsm1gp" + named).hexdigest() == found["proposal_id"]
    assert proposal_id(chain_id, proposer, proposal).hex() == found["proposal_id"]


def test_state_proof_leads_from_the_value_to_the_root() -> None:
    found = part("chain")
    proof = check_record(StateProof, part("chain", "state_proof"))
    assert isinstance(proof, StateProof)
    assert proof.key.hex() == found["state_key"]
    value = proven_value(proof, bytes.fromhex(text(found, "state_root")))
    assert value is not None
    assert value.hex() == found["state_value"]


def test_merkle_roots_and_paths() -> None:
    found = vectors("wire.json")["merkle"]
    assert isinstance(found, list)
    for entry in found:
        items = [f"item {i}".encode() for i in range(entry["count"])]
        assert merkle.root(items).hex() == entry["root"]
        for index, path in enumerate(entry["paths"]):
            assert merkle.is_included(
                items[index],
                index=index,
                count=len(items),
                path=[bytes.fromhex(step) for step in path],
                expected=bytes.fromhex(entry["root"]),
            )


def test_libsodium_refuses_the_pairs_openssl_accepts() -> None:
    """Two rules split a chain: the 22 pairs of docs/adr/0003, and 34 more."""
    found = vectors("ed25519.json")
    pairs, more = found["pairs"], found["more"]
    assert isinstance(pairs, list)
    assert isinstance(more, list)
    assert (len(pairs), len(more)) == (22, 34)
    for entry in (*pairs, *more):
        key, message, signature = (
            bytes.fromhex(entry[name]) for name in ("public_key", "message", "signature")
        )
        assert not Ed25519Verifier().verify(key, message, signature)
        Ed25519PublicKey.from_public_bytes(key).verify(signature, message)
