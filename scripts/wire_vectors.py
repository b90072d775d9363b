"""Writes tests/vectors/wire.json and ed25519.json: the golden bytes of the wire.

Changing a line of wire.json is a protocol change: the commit says so. New messages and payloads
only add lines. Values are plain (numbers, texts, bytes as 0x hex, arrays), so that another
implementation can pack them itself.

    python scripts/wire_vectors.py           # write
    python scripts/wire_vectors.py --check   # fail if what is written differs
"""

import argparse
import json
import sys
from itertools import product
from pathlib import Path
from typing import Final

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from msgspec import inspect

from prsm.consensus.ledger.records import Balance, account_key
from prsm.protocol import merkle
from prsm.protocol.codec import Record, decode, encode
from prsm.protocol.ed25519 import Ed25519Verifier
from prsm.protocol.genesis import to_json
from prsm.protocol.governance import Category
from prsm.protocol.headers import block_hash
from prsm.protocol.messages.table import MESSAGES
from prsm.protocol.proofs import StateProof
from prsm.protocol.receipts import receipt_hash
from prsm.protocol.signing import Kind, sha256, statement
from prsm.protocol.tensors import Dtype, TensorHead
from prsm.protocol.transactions.conditions import (
    After,
    Approval,
    AtLeast,
    Branch,
    Fallback,
    HashLock,
    Hold,
    Signers,
    Vesting,
    approval_statement,
    approve,
    hold_id,
)
from prsm.protocol.transactions.envelope import transaction_id
from prsm.protocol.transactions.governance import ParameterChange, Propose, proposal_id
from prsm.protocol.transactions.membership import Join, possession_statement, prove_possession
from prsm.protocol.transactions.payloads import PAYLOADS
from prsm.protocol.transactions.results import Code, Payment, TxReceipt
from prsm.testnet.chain import Chain, signer_of, small_genesis
from prsm.testnet.jobs import Work, lock_of

VECTORS: Final = Path(__file__).parents[1] / "tests" / "vectors"
Plain = int | bool | str | None | list["Plain"]
Json = dict[str, object]

# Encodings of points of small order: canonical ones, and (n) those with p or a sign added.
# The first six give the 22 pairs of docs/adr/0003; the others are further ones.
POINTS: Final[dict[str, str]] = {
    "order 1": "01" + "00" * 31,
    "order 8 a": "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
    "order 8 b": "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
    "order 8 c": "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
    "order 8 d": "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
    "order 1 n": "01" + "00" * 30 + "80",
    "order 2": "ec" + "ff" * 30 + "7f",
    "order 4 a": "00" * 32,
    "order 4 b": "00" * 31 + "80",
    "order 2 n": "ec" + "ff" * 31,
    "order 4 n": "ed" + "ff" * 30 + "7f",
    "order 4 n sign": "ed" + "ff" * 31,
    "order 1 n p": "ee" + "ff" * 30 + "7f",
    "order 1 n p sign": "ee" + "ff" * 31,
}


class Sampler:
    """Makes one value of any record class from its annotations; each field differs."""

    def __init__(self) -> None:
        self._count = 0

    def of(self, kind: inspect.Type) -> object:  # noqa: C901, PLR0911 - dispatch
        """A value within the bounds of the annotation, as plain msgpack."""
        self._count += 1
        match kind:
            case inspect.StructType():
                tag = () if kind.tag is None else (kind.tag,)
                return (*tag, *(self.of(field.type) for field in kind.fields))
            case inspect.IntType():
                low = kind.ge if kind.ge is not None else 0
                high = kind.le if kind.le is not None else (kind.lt or 2**31) - 1
                return int(low + self._count % 251 % max(1, high - low + 1))
            case inspect.BytesType():
                size = max(kind.min_length or 0, min(3, kind.max_length or 3))
                return bytes([self._count % 251]) * size
            case inspect.StrType():
                if kind.pattern is not None:
                    return f"name-{self._count}"
                text = f"text {self._count}"
                return text.ljust(kind.min_length or 0, ".")[: kind.max_length or 99]
            case inspect.EnumType():
                members = list(kind.cls)
                return members[self._count % len(members)].value
            case inspect.UnionType():
                return self.of(next(t for t in kind.types if not isinstance(t, inspect.NoneType)))
            case inspect.VarTupleType():
                count = max(kind.min_length or 0, min(2, kind.max_length or 2))
                return tuple(self.of(kind.item_type) for _ in range(count))
            case inspect.TupleType():
                return tuple(self.of(item) for item in kind.item_types)
            case inspect.BoolType():
                return self._count % 2 == 0
            case _:
                raise TypeError(f"no sample of {kind}")


def plain(value: object) -> Plain:
    """Write a value of the wire as JSON."""
    match value:
        case bytes():
            return "0x" + value.hex()
        case tuple():
            return [plain(item) for item in value]
        case None | bool() | int() | str():
            return value
        case _:
            raise TypeError(f"{value!r} does not travel")


def record_vector(cls: type[Record], raw: bytes) -> Json:
    """Name, fields, value and bytes of one record."""
    record = decode(raw, cls, size_max=len(raw))
    assert encode(record) == raw
    value = msgspec.msgpack.decode(raw, type=tuple)
    fields = [field.name for field in msgspec.structs.fields(cls)]
    return {"name": cls.__name__, "fields": fields, "value": plain(_deep(value)), "hex": raw.hex()}


def _deep(value: object) -> object:
    return tuple(_deep(item) for item in value) if isinstance(value, list | tuple) else value


def sampled(cls: type[Record]) -> bytes:
    """Canonical bytes of a sample."""
    return encode(Sampler().of(inspect.type_info(cls)))


def wire() -> Json:
    """Everything but Ed25519."""
    chain = Chain(small_genesis())
    raws = {
        number: chain.order(
            64, decode(sampled(cls), cls, size_max=65_536), nonce=number, ahead_ms=1_000
        )
        for number, cls in PAYLOADS.items()
    }
    return {
        "messages": {
            str(number): record_vector(cls, sampled(cls)) for number, cls in MESSAGES.items()
        },
        "payloads": {
            str(number): record_vector(cls, sampled(cls)) for number, cls in PAYLOADS.items()
        },
        "transactions": {
            str(number): {"hex": raw.hex(), "id": transaction_id(raw).hex()}
            for number, raw in raws.items()
        },
        "genesis": {
            "json": to_json(chain.genesis).decode(),
            "hex": encode(chain.genesis).hex(),
            "digest": chain.genesis.digest.hex(),
            "chain_id": chain.genesis.chain_id.hex(),
            "validators_hash": chain.genesis.first_validators().digest.hex(),
        },
        "codes": {code.name: int(code) for code in Code},
        "signed": _signed(),
        "chain": _chain(chain),
        "conditions": _conditions(chain),
        "membership": _membership(chain),
        "governance": _governance(chain),
        "merkle": _merkle(),
    }


def _signed() -> Json:
    """One statement of each kind, and the signature of key 0."""
    key, found = signer_of(0), []
    for kind in Kind:
        message = statement(
            b"chain-id", kind, epoch=1, height=2**40, view=3, digest=bytes(range(32))
        )
        assert Ed25519Verifier().verify(key.public_key, message, key.sign(message))
        found.append(
            {"kind": int(kind), "hex": message.hex(), "signature": key.sign(message).hex()}
        )
    return {"public_key": key.public_key.hex(), "statements": found}


def _chain(chain: Chain) -> Json:
    """A block with its certificate, a work receipt, a transaction's receipt, a state proof."""
    lock = lock_of()
    made = chain.add(chain.order(64, lock))
    receipt = Work(65).receipt(chain, lock)
    outcome = TxReceipt(
        tx=bytes(32),
        code=Code.UNDECIDED,
        fee=7,
        paid=(Payment(account=bytes(32), amount=9),),
        returned=1,
        detail=3,
    )
    key = account_key(signer_of(65).public_key, 0)
    proof = chain.ledger.prove(key)
    return {
        "header": record_vector(type(made.block.header), encode(made.block.header)),
        "block_hash": block_hash(made.block.header).hex(),
        "body_hex": encode(made.block.body).hex(),
        "certificate": record_vector(type(made.certificate), encode(made.certificate)),
        "work_receipt": record_vector(type(receipt), encode(receipt)),
        "work_receipt_hash": receipt_hash(receipt).hex(),
        "tx_receipt": record_vector(TxReceipt, encode(outcome)),
        "state_key": key.hex(),
        "state_value": encode(Balance(amount=chain.ledger.view.account(key[1:33]))).hex(),
        "state_root": chain.ledger.state_root.hex(),
        "state_proof": record_vector(StateProof, encode(proof)),
        "tensor_head": record_vector(
            TensorHead, encode(TensorHead(name="h", dtype=Dtype.F32, shape=(8, 384)))
        ),
    }


def _conditions(chain: Chain) -> Json:
    """A hold with every predicate, its id, and what a key signs to approve its first branch."""
    keys = tuple(signer_of(number).public_key for number in (65, 66, 67))
    parts = (After(time_ms=2**40), HashLock(digest=sha256(b"secret")), Signers(least=2, keys=keys))
    hold = Hold(
        salt=bytes(range(32)),
        asset=0,
        amount=10**6,
        branches=(
            Branch(to=keys[0], condition=AtLeast(least=2, parts=parts), vesting=None),
            Branch(to=keys[1], condition=parts[0], vesting=Vesting(1, 2, 2**40)),
        ),
        fallback=Fallback(after_ms=2**41, to=keys[2]),
    )
    chain_id, holder = chain.genesis.chain_id, signer_of(64).public_key
    identity = hold_id(chain_id, holder, hold)
    approval = approve(chain_id, identity, 0, signer_of(65))
    return {
        "chain_id": chain_id.hex(),
        "holder": holder.hex(),
        "hold": record_vector(Hold, encode(hold)),
        "hold_id": identity.hex(),
        "approval_statement": approval_statement(chain_id, identity, 0).hex(),
        "approval": record_vector(Approval, encode(approval)),
    }


def _membership(chain: Chain) -> Json:
    """An operator's Join, and what its new consensus key signs for it."""
    chain_id, operator, key = chain.genesis.chain_id, signer_of(64).public_key, signer_of(8)
    proof = prove_possession(key, chain_id, operator)
    statement_hex = possession_statement(chain_id, operator, key.public_key).hex()
    join = Join(consensus=key.public_key, peer_id="peer8", stake=10**9, possession=proof)
    return {
        "chain_id": chain_id.hex(),
        "operator": operator.hex(),
        "possession_statement": statement_hex,
        "join": record_vector(Join, encode(join)),
    }


def _governance(chain: Chain) -> Json:
    """A proposal of changes and its id."""
    chain_id, proposer = chain.genesis.chain_id, signer_of(64).public_key
    changes = (ParameterChange("fee_base", 500), ParameterChange("economic.quorum_bps", 3_000))
    proposal = Propose(bytes(range(32)), Category.CONSTITUTIONAL, "cheaper", changes, None)
    return {
        "chain_id": chain_id.hex(),
        "proposer": proposer.hex(),
        "proposal": record_vector(Propose, encode(proposal)),
        "proposal_id": proposal_id(chain_id, proposer, proposal).hex(),
    }


def _merkle() -> list[Json]:
    found: list[Json] = []
    for count in range(8):
        items = [f"item {i}".encode() for i in range(count)]
        paths = [[step.hex() for step in merkle.proof(items, i)] for i in range(count)]
        found.append({"count": count, "root": merkle.root(items).hex(), "paths": paths})
    return found


def small_order() -> Json:
    """Pairs of small-order key and R that OpenSSL accepts and libsodium refuses."""
    names = list(POINTS)
    pairs: list[Json] = []
    more: list[Json] = []
    for name_a, name_r in product(names, names):
        found = _accepted(bytes.fromhex(POINTS[name_a]), bytes.fromhex(POINTS[name_r]))
        if found is not None:
            first = {name_a, name_r} <= set(names[:6])
            (pairs if first else more).append({"key_order": name_a, "r_order": name_r, **found})
    return {"pairs": pairs, "more": more}


def _accepted(key: bytes, r: bytes) -> Json | None:
    """The first message whose signature (R, S = 0) OpenSSL takes; k mod 8 decides."""
    signature = r + bytes(32)
    for number in range(256):
        message = sha256(b"small order", bytes([number]))
        try:
            Ed25519PublicKey.from_public_bytes(key).verify(signature, message)
        except InvalidSignature:
            continue
        assert not Ed25519Verifier().verify(key, message, signature), "libsodium accepts it too"
        return {"public_key": key.hex(), "message": message.hex(), "signature": signature.hex()}
    return None


def main() -> int:
    """Write both files, or compare with them."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--check", action="store_true", help="compare, write nothing")
    args = parser.parse_args()
    differs = 0
    for name, content in (("wire.json", wire()), ("ed25519.json", small_order())):
        text = json.dumps(content, indent=1) + "\n"
        path = VECTORS / name
        if not args.check:
            path.write_text(text)
        elif path.read_text() != text:
            print(f"{path}: differs from the code; run scripts/wire_vectors.py")
            differs = 1
    return differs


if __name__ == "__main__":
    sys.exit(main())
