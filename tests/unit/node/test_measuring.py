"""What is read off blocks, and calls as they are counted."""

import re

import pytest
import trio
import trio.testing

from prsm.node.measuring import count_calls, kind_of, result_of
from prsm.node.rpc.dispatch import Ask
from prsm.node.rpc.errors import TooMany
from prsm.node.rpc.methods.table import METHODS
from prsm.node.rpc.spec import Caller, NoParams
from prsm.node.telemetry.metrics import Metrics
from prsm.protocol.codec import decode, encode
from prsm.protocol.transactions.envelope import Transaction, decode_transaction
from prsm.protocol.transactions.payloads import PAYLOADS
from prsm.protocol.transactions.results import Code, Payment, TxReceipt


@pytest.mark.parametrize("kind", [*(number for number, _ in PAYLOADS.items()), 255])
def test_kind_of_a_transaction_is_the_one_its_decoder_finds(kind: int) -> None:
    transaction = Transaction(
        *(1, b"chain-id", kind, bytes(32), 2**40, 10**6, b"payload", 10**13, bytes(64))
    )
    raw = encode(transaction)
    assert decode_transaction(raw).kind == kind
    known = dict(PAYLOADS.items()).get(kind)
    said = kind_of(raw)
    assert said == "other" if known is None else said.replace("_", "") == known.__name__.lower()
    assert re.fullmatch(r"[a-z]+(_[a-z]+)*", said)


@pytest.mark.parametrize("code", list(Code))
def test_result_of_a_receipt_is_the_one_its_decoder_finds(code: Code) -> None:
    receipt = TxReceipt(bytes(range(32)), code, 10**9, (Payment(bytes(32), 7),), 10**9, 3)
    raw = encode(receipt)
    assert decode(raw, TxReceipt, size_max=len(raw)).code is code
    assert result_of(raw) == code.name.lower()


async def test_calls_are_counted_by_method_and_code(
    autojump_clock: trio.testing.MockClock,  # noqa: ARG001 - it moves the time
) -> None:
    found = Metrics()
    layer = count_calls(found)
    ask = Ask(METHODS["rpc_ping"], NoParams(), Caller("test", frozenset()))

    async def answer(_ask: Ask) -> object:
        assert found.value("prsm_rpc_in_flight") == 1
        await trio.sleep(0.2)
        return "pong"

    async def refuse(_ask: Ask) -> object:
        await trio.lowlevel.checkpoint()
        raise TooMany("not now")

    async def fail(_ask: Ask) -> object:
        await trio.lowlevel.checkpoint()
        raise ZeroDivisionError

    assert await layer(ask, answer) == "pong"
    with pytest.raises(TooMany):
        await layer(ask, refuse)
    with pytest.raises(ZeroDivisionError):
        await layer(ask, fail)
    calls = "prsm_rpc_requests_total"
    assert found.value(calls, "rpc_ping", "0") == 1
    assert found.value(calls, "rpc_ping", "-32005") == 1
    assert found.value(calls, "rpc_ping", "-32603") == 1
    assert found.value("prsm_rpc_duration_seconds", "rpc_ping") == 3
    assert found.value("prsm_rpc_in_flight") == 0
