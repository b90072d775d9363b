"""account_ and wallet_ in JSON: balances, keys, payments, and their refusals."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio
import trio.testing

from prsm.protocol.ids import address_text
from tests.tools.labs import BALANCE, PASSWORD
from tests.tools.site import Site, open_site


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with open_site(tmp_path) as opened:
        yield opened


def second(site: Site) -> str:
    return address_text(site.cluster.labs[1].wallet.public_key)


async def test_balance_of_ours_and_of_anyone(site: Site) -> None:
    """Ours if nobody is named; a stranger has nothing."""
    ours = await site.ask("account_getBalance")
    assert ours["address"] == address_text(site.parts.wallet.address)
    assert (ours["balance"], ours["nonce"]) == (str(BALANCE), 0)
    stranger = await site.ask("account_getBalance", address="0x" + "55" * 32)
    assert (stranger["balance"], stranger["bonded"]) == ("0", "0")


async def test_standing_is_that_of_the_pledge_and_of_the_work(site: Site) -> None:
    """A pledge is a transaction like any other; a new worker is drawn one time in four."""
    fresh = await site.ask("account_getStanding")
    assert (fresh["pledged"], fresh["auditor_since"], fresh["audit_bps"]) == ("0", None, 2_500)
    sent = await site.ask("wallet_submit", kind="Pledge", payload={"amount": 2_000_000})
    with trio.fail_after(5):
        await site.committed(sent["tx_id"])
    ours = await site.ask("account_getStanding")
    assert (ours["pledged"], ours["held"], ours["settled"]) == ("2000000", "0", 0)
    assert ours["auditor_since"] == ours["height"]
    stranger = await site.ask("account_getStanding", address="0x" + "55" * 32)
    assert stranger["pledged"] == "0"


async def test_payment_moves_the_nonce(site: Site) -> None:
    """The pool knows the next nonce at once, the ledger after the block."""
    sent = await site.ask("wallet_transfer", to=second(site), amount="9")
    assert (sent["nonce"], sent["amount"]) == (0, "9")
    assert (await site.ask("account_getNonce"))["pending"] == 1
    with trio.fail_after(5):
        await site.committed(sent["tx_id"])
    assert (await site.ask("account_getNonce"))["nonce"] == 1
    assert (await site.ask("account_getBalance", address=second(site)))["balance"] == str(
        BALANCE + 9
    )


@pytest.mark.parametrize("method", ["account_getBalance", "account_getNonce"])
async def test_read_waits_for_the_height_it_asks_for(
    site: Site, nursery: trio.Nursery, method: str
) -> None:
    """Whoever saw a payment in block 1 elsewhere never reads what was before it here."""
    answers: list[dict[str, object]] = []
    is_answered = trio.Event()

    async def ask() -> None:
        answers.append(await site.ask(method, min_height=1))
        is_answered.set()

    nursery.start_soon(ask)
    await trio.testing.wait_all_tasks_blocked()
    assert answers == []
    await site.ask("wallet_transfer", to=second(site), amount="9")
    with trio.fail_after(5):
        await is_answered.wait()
    assert answers[0]["nonce"] == 1
    assert answers[0]["height"] == 1


async def test_payments_that_cannot_be_are_refused(site: Site) -> None:
    """Too much, a malformed account or amount, a key nobody made."""
    to = second(site)
    for params, expected in (
        ({"to": to, "amount": "9" * 18}, (-32010, "insufficient_funds")),
        ({"to": "0x12", "amount": "1"}, (-32602, "invalid_params")),
        ({"to": to, "amount": "-1"}, (-32602, "invalid_params")),
        ({"to": to, "amount": "1.5"}, (-32602, "invalid_params")),
        ({"to": to, "amount": "1", "name": "nobody"}, (-32003, "not_found")),
        ({"to": to, "amount": "1", "name": "../x"}, (-32602, "invalid_params")),
    ):
        assert await site.refused("wallet_transfer", **params) == expected
    assert (await site.ask("account_getBalance"))["nonce"] == 0


async def test_new_key_is_made_opened_and_used(site: Site) -> None:
    """Locked at first; a wrong password; then it pays nothing, since it has nothing."""
    made = await site.ask("wallet_createKey", name="spare", password="secret")
    assert not made["unlocked"]
    to = second(site)
    pay = {"to": to, "amount": "1", "name": "spare"}
    assert await site.refused("wallet_transfer", **pay) == (-32002, "wallet_locked")
    unlock = {"name": "spare", "password": "guess"}
    assert await site.refused("wallet_unlock", **unlock) == (-32001, "wrong_password")
    opened = await site.ask("wallet_unlock", name="spare", password="secret", ttl_s=5)
    assert opened["address"] == made["address"]
    assert await site.refused("wallet_transfer", **pay) == (-32010, "insufficient_funds")
    names = [key["name"] for key in (await site.ask("wallet_listKeys"))["items"]]
    assert names == ["default", "spare"]
    assert await site.refused("wallet_createKey", name="spare", password="x") == (
        -32004,
        "conflict",
    )
    assert await site.refused("wallet_createKey", name="other", password="") == (
        -32602,
        "invalid_params",
    )


async def test_node_s_own_key_is_locked_without_a_password_at_start(tmp_path: Path) -> None:
    """Reads go on; payments are refused until it is opened."""
    async with open_site(tmp_path, unlocked=False) as site:
        pay = {"to": second(site), "amount": "1"}
        assert (await site.ask("account_getBalance"))["balance"] == str(BALANCE)
        assert await site.refused("wallet_transfer", **pay) == (-32002, "wallet_locked")
        await site.ask("wallet_unlock", password=PASSWORD)
        await site.ask("wallet_transfer", **pay)


async def test_any_transaction_is_sent_as_a_document(site: Site) -> None:
    """A hold is opened, a key of this home consents, the claim pays; each by its kind's name."""
    ours = (await site.ask("account_getBalance"))["address"]
    terms = {
        "salt": "0x" + "07" * 32,
        "asset": 0,
        "amount": "500",
        "branches": [
            {
                "to": second(site),
                "condition": {"is": "Signers", "least": 1, "keys": [ours]},
                "vesting": None,
            }
        ],
        "fallback": None,
    }
    opened = await site.ask("wallet_submit", kind="Hold", payload=terms)
    with trio.fail_after(5):
        await site.committed(opened["tx_id"])
    hold = opened["hold"]
    assert (await site.ask("chain_getHold", hold=hold))["left"] == "500"
    consent = await site.ask("wallet_approve", hold=hold)
    claim = {"hold": hold, "branch": 0, "preimages": [], "approvals": [consent]}
    sent = await site.ask("wallet_submit", kind="Claim", payload=claim)
    assert (sent["hold"], sent["kind"]) == (None, "Claim")
    with trio.fail_after(5):
        await site.committed(sent["tx_id"])
    paid = await site.ask("account_getBalance", address=second(site))
    assert paid["balance"] == str(BALANCE + 500)


async def test_documents_that_are_no_transaction_are_refused(site: Site) -> None:
    """An unknown kind, an unknown field, a hold nobody opened, a branch it has not."""
    hold = "0x" + "01" * 32
    for method, params, expected in (
        ("wallet_submit", {"kind": "Gift", "payload": {}}, (-32602, "invalid_params")),
        ("wallet_submit", {"kind": "Reclaim", "payload": {}}, (-32602, "invalid_params")),
        (
            "wallet_submit",
            {"kind": "Reclaim", "payload": {"hold": hold}},
            (-32013, "escrow_state"),
        ),
        ("wallet_approve", {"hold": hold}, (-32003, "not_found")),
        ("wallet_approve", {"hold": hold, "branch": 9}, (-32602, "invalid_params")),
    ):
        assert await site.refused(method, **params) == expected, (method, params)
