"""Fees and holds as people ask for them, on a real ledger."""

import msgspec
import pytest

from prsm.consensus.ledger.fees import fee_to_offer, operations_of
from prsm.consensus.ledger.records import Held
from prsm.node.api.ledger import LedgerApi, fees_by
from prsm.node.api.readable import readable, readable_record
from prsm.node.callers.prices import PRICES
from prsm.node.rpc.methods import ledger as api
from prsm.node.rpc.methods.wallet import SubmitParams
from prsm.node.rpc.spec import ALL_SCOPES, Caller
from prsm.protocol.codec import Record, decode, encode
from prsm.protocol.errors import LocalError, WireError
from prsm.protocol.ids import address_text
from prsm.protocol.limits import APPROVALS_MAX, CONDITION_STEPS_MAX, HOLD_BRANCHES_MAX
from prsm.protocol.signing import sha256
from prsm.protocol.transactions.conditions import (
    After,
    AtLeast,
    Branch,
    Claim,
    Fallback,
    HashLock,
    Hold,
    Reclaim,
    Signers,
    Vesting,
    hold_id,
)
from prsm.protocol.transactions.envelope import decode_transaction, sign_transaction
from prsm.protocol.transactions.payloads import RegisterModel, Transfer
from prsm.storage.errors import NotFound
from prsm.testnet.chain import START_MS, Chain, signer_of, small_genesis

CALLER = Caller("test", ALL_SCOPES)
HOLDER, PAYEE, OTHER = 64, 90, 91
PAY = Transfer(asset=0, to=bytes(32), amount=1, memo=b"")


@pytest.fixture
def chain() -> Chain:
    return Chain(small_genesis())


def key(number: int) -> bytes:
    return signer_of(number).public_key


def hold_of(number: int = 0) -> Hold:
    return Hold(
        salt=bytes([number]) * 32,
        asset=0,
        amount=100,
        branches=(
            Branch(key(PAYEE), After(0), Vesting(START_MS, START_MS, START_MS + 10_000)),
            Branch(
                key(OTHER),
                AtLeast(2, (HashLock(sha256(b"s")), Signers(1, (key(OTHER),)))),
                None,
            ),
        ),
        fallback=Fallback(START_MS + 20_000, key(HOLDER)),
    )


def open_hold(chain: Chain, number: int = 0) -> str:
    terms = hold_of(number)
    chain.send(HOLDER, terms)
    return address_text(hold_id(chain.genesis.chain_id, key(HOLDER), terms))


async def test_fee_of_a_whole_transaction_is_admitted(chain: Chain) -> None:
    """Unsigned goes in; signed with the fee that comes out, it is admitted."""
    draft = decode_transaction(chain.order(HOLDER, PAY))
    unsigned = msgspec.structs.replace(draft, fee=0, signature=bytes(64))
    answer = await LedgerApi(chain.ledger).fee(
        api.FeeParams(raw="0x" + encode(unsigned).hex()), CALLER
    )
    assert answer.operations == 1
    parts = int(answer.fee_base) + int(answer.fee_per_byte) * answer.size_bytes
    assert int(answer.fee) == parts + int(answer.fee_per_operation)
    paid = msgspec.structs.replace(draft, fee=int(answer.fee))
    raw = encode(sign_transaction(paid, signer_of(HOLDER)))
    assert chain.ledger.admission.check(raw).transaction.fee == int(answer.fee)


async def test_fee_of_a_payload_suffices_in_any_envelope(chain: Chain) -> None:
    terms = hold_of()
    answer = await LedgerApi(chain.ledger).fee(
        api.FeeParams(kind="Hold", payload="0x" + encode(terms).hex()), CALLER
    )
    assert answer.operations == 5
    raw = chain.order(HOLDER, terms, fee=int(answer.fee))
    assert 0 < answer.size_bytes - len(raw) <= 32
    chain.ledger.admission.check(raw)


def dear_hold() -> Hold:
    """One whose branches ask for as many steps as there may be."""
    inner = AtLeast(1, (After(1),) * APPROVALS_MAX)
    steps = AtLeast(1, (*(inner,) * 3, *(After(1),) * 12))
    branch = Branch(key(PAYEE), steps, None)
    return msgspec.structs.replace(hold_of(), branches=(branch,) * HOLD_BRANCHES_MAX)


@pytest.mark.parametrize(
    ("payload", "amount", "operations"),
    [
        (PAY, 1, 1),
        (hold_of(), 100, 5),
        (dear_hold(), 100, CONDITION_STEPS_MAX * HOLD_BRANCHES_MAX),
        (RegisterModel(b"m" * 36, "net", "1.0.0", bytes(32), 1, (b"p" * 36,) * 16), 0, 17),
    ],
)
async def test_what_a_token_reserves_pays_the_fee_of_every_operation(
    payload: Record, amount: int, operations: int, chain: Chain
) -> None:
    parameters = msgspec.structs.replace(chain.ledger.parameters, fee_per_operation=1_000)
    wish = SubmitParams(type(payload).__name__, readable_record(payload))
    reserved = PRICES["wallet_submit"].asked(wish, fees_by(lambda: parameters))
    draft = decode_transaction(chain.order(HOLDER, payload))
    paid = amount + fee_to_offer(parameters, draft, payload)
    assert operations_of(payload) == operations
    assert reserved is not None
    assert paid <= reserved < paid + 1_000 * max(operations, 20)


@pytest.mark.parametrize(
    ("params", "error", "what"),
    [
        (api.FeeParams(), LocalError, "neither"),
        (api.FeeParams(kind="Transfer"), LocalError, "neither"),
        (api.FeeParams(payload="0x00"), LocalError, "neither"),
        (api.FeeParams(raw="0x00", kind="Transfer"), LocalError, "both"),
        (api.FeeParams(raw="0x00", payload="0x00"), LocalError, "both"),
        (api.FeeParams(kind="Gift", payload="0x00"), LocalError, "'Gift'"),
        (api.FeeParams(kind="Transfer", payload="0x00"), WireError, "Transfer"),
        (api.FeeParams(raw="0x00"), WireError, "Transaction"),
    ],
)
async def test_fee_refuses(
    chain: Chain, params: api.FeeParams, error: type[Exception], what: str
) -> None:
    with pytest.raises(error, match=what):
        await LedgerApi(chain.ledger).fee(params, CALLER)


async def test_hold_says_its_terms_and_what_is_due(chain: Chain) -> None:
    door, identity = LedgerApi(chain.ledger), open_hold(chain)
    chain.add(step_ms=3_000)
    answer = await door.hold(api.HoldParams(identity), CALLER)
    assert (answer.state, answer.amount, answer.left) == ("open", "100", "100")
    assert (answer.hold, answer.holder) == (identity, address_text(key(HOLDER)))
    assert (answer.opened_height, answer.height) == (1, 2)
    assert [branch.due for branch in answer.branches] == ["40", "100"]
    assert answer.branches[0].condition == {"is": "After", "time_ms": 0}
    assert answer.branches[0].vesting == {
        "start_ms": START_MS,
        "cliff_ms": START_MS,
        "end_ms": START_MS + 10_000,
    }
    assert answer.branches[1].vesting is None
    lock = {"is": "HashLock", "digest": address_text(sha256(b"s"))}
    signers = {"is": "Signers", "least": 1, "keys": [address_text(key(OTHER))]}
    assert answer.branches[1].condition == {"is": "AtLeast", "least": 2, "parts": [lock, signers]}
    assert answer.fallback == {"after_ms": START_MS + 20_000, "to": address_text(key(HOLDER))}
    raw = bytes.fromhex(answer.raw[2:])
    assert decode(raw, Held, size_max=len(raw)) == chain.ledger.view.hold(
        bytes.fromhex(identity[2:])
    )


async def test_hold_says_how_it_ended(chain: Chain) -> None:
    door, paid, reclaimed = LedgerApi(chain.ledger), open_hold(chain), open_hold(chain, 1)
    claim = Claim(bytes.fromhex(paid[2:]), 0, (), ())
    chain.send(HOLDER, claim, step_ms=9_000)
    assert (await door.hold(api.HoldParams(paid), CALLER)).state == "paid"
    chain.add(step_ms=9_000)
    due = await door.hold(api.HoldParams(reclaimed), CALLER)
    assert (due.state, [branch.due for branch in due.branches]) == ("due", ["0", "0"])
    chain.send(HOLDER, Reclaim(bytes.fromhex(reclaimed[2:])))
    ended = await door.hold(api.HoldParams(reclaimed), CALLER)
    assert (ended.state, ended.left) == ("reclaimed", "0")


async def test_irrevocable_hold_has_no_fallback(chain: Chain) -> None:
    terms = msgspec.structs.replace(hold_of(), fallback=None)
    chain.send(HOLDER, terms)
    identity = address_text(hold_id(chain.genesis.chain_id, key(HOLDER), terms))
    chain.add(step_ms=60_000)
    answer = await LedgerApi(chain.ledger).hold(api.HoldParams(identity), CALLER)
    assert (answer.state, answer.fallback) == ("open", None)


async def test_unknown_hold_is_not_found(chain: Chain) -> None:
    with pytest.raises(NotFound, match="no hold"):
        await LedgerApi(chain.ledger).hold(api.HoldParams("0x" + "00" * 32), CALLER)


async def test_holds_of_an_account_come_oldest_first_within_the_limit(chain: Chain) -> None:
    door = LedgerApi(chain.ledger)
    made = [open_hold(chain, number) for number in range(3)]
    for account in (HOLDER, PAYEE, OTHER):
        answer = await door.holds(api.HoldsParams(address_text(key(account))), CALLER)
        assert [hold.hold for hold in answer.items] == made
        assert not answer.more
    few = await door.holds(api.HoldsParams(address_text(key(PAYEE)), limit=2), CALLER)
    assert ([hold.hold for hold in few.items], few.more, few.height) == (made[:2], True, 3)
    none = await door.holds(api.HoldsParams(address_text(key(65))), CALLER)
    assert none.items == ()


def test_every_method_has_its_handler(chain: Chain) -> None:
    assert set(LedgerApi(chain.ledger).handlers()) == {method.name for method in api.METHODS}


def test_integers_beyond_a_double_are_text() -> None:
    assert readable((2**53, 2**53 + 1, b"\x01", None)) == [2**53, str(2**53 + 1), "0x01", None]
