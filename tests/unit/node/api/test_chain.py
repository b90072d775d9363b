"""consensus_ and chain_ in JSON: blocks, transactions, proofs, and what wrong questions get."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import trio

from prsm.consensus.ledger.records import account_key
from prsm.node.chain.noncequeue import MempoolLimits
from prsm.protocol.genesis import Parameters
from prsm.protocol.ids import FTNS, TxId, address_text
from prsm.protocol.proofs import bucket_index
from prsm.protocol.signing import sha256
from tests.tools.labs import BALANCE, FEE, STAKE, Lab, transfer
from tests.tools.site import Site, open_site

UNKNOWN = "0x" + "77" * 32


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with open_site(tmp_path) as opened:
        yield opened


async def pay(site: Site) -> Any:  # noqa: ANN401 - any JSON
    """A committed payment of 5 to the second lab; the transaction as the node shows it."""
    to = address_text(site.cluster.labs[1].wallet.public_key)
    sent = await site.ask("wallet_transfer", to=to, amount="5")
    with trio.fail_after(5):
        await site.committed(sent["tx_id"])
    return await site.ask("chain_getTransaction", tx_id=sent["tx_id"])


async def test_transaction_is_found_in_its_block_and_with_its_receipt(site: Site) -> None:
    """One payment, seen from the transaction, the block by height and by hash, the receipt."""
    shown = await pay(site)
    assert (shown["status"], shown["ok"], shown["why"]) == ("committed", True, "")
    assert (shown["kind"], shown["body"]["amount"]) == ("Transfer", 5)
    block = await site.ask("chain_getBlock", height=shown["height"])
    assert block["transactions"][shown["index"]] == shown
    assert await site.ask("chain_getBlock", hash=block["hash"]) == block
    assert block["certificate"]["signers"] == [0]
    receipt = await site.ask("chain_getReceipt", tx_id=shown["tx_id"])
    assert (receipt["height"], receipt["ok"]) == (shown["height"], True)
    status = await site.ask("chain_getStatus")
    assert status["transactions"] == 1
    assert status["height"] >= shown["height"]


async def test_transaction_is_not_lost_while_its_block_comes(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The block comes after the ledger was looked at: it was on its way when it was asked for."""
    wallet = site.parts.wallet
    tx_id = (await site.ask("wallet_transfer", to="0x" + "ab" * 32, amount="1"))["tx_id"]

    async def late(looked: TxId) -> None:
        await trio.lowlevel.checkpoint()
        wallet._pending.pop(looked, None)

    monkeypatch.setattr(wallet, "find", late)
    assert (await site.ask("chain_getTransaction", tx_id=tx_id))["status"] == "pending"


async def test_validators_and_state_of_agreement(site: Site) -> None:
    """One validator, epochs 0 and 1; another one is not known."""
    found = await site.ask("consensus_getValidators")
    assert (found["stake_total"], len(found["items"])) == (str(STAKE), 1)
    assert await site.ask("consensus_getValidators", epoch=0) == found
    assert (await site.ask("consensus_getState"))["signer_index"] == 0
    assert await site.refused("consensus_getValidators", epoch=9) == (-32003, "not_found")
    shown = await site.ask("consensus_getRound")
    assert (shown["epoch"], shown["view"], shown["proposer"]) == (0, 0, 0)
    assert shown["silent_because"] == ""
    assert [(each["stake"], each["silent_ms"]) for each in shown["members"]] == [(str(STAKE), 0)]
    assert shown["following"] == await site.ask("consensus_getValidators", epoch=1)
    assert shown["following"]["epoch"] == 1


@pytest.mark.parametrize(
    ("method", "params"),
    [
        ("chain_getBlock", {"height": 10**6}),
        ("chain_getBlock", {"hash": UNKNOWN}),
        ("chain_getTransaction", {"tx_id": UNKNOWN}),
        ("chain_getReceipt", {"tx_id": UNKNOWN}),
    ],
)
async def test_unknown_things_are_not_found(
    site: Site, method: str, params: dict[str, object]
) -> None:
    """Typed, with a hint, at once."""
    assert await site.refused(method, **params) == (-32003, "not_found")


async def test_bad_transactions_get_their_codes(site: Site) -> None:
    """Garbage, another network, a changed signature, an old and a far nonce, once committed."""
    cluster, lab = site.cluster, site.cluster.labs[1]
    good = cluster.signed(lab, transfer(cluster.labs[0], 1), nonce=0)
    forged = good[:-1] + bytes([good[-1] ^ 1])
    foreign = cluster.signed(lab, transfer(lab, 1), nonce=0, chain_id=b"elsewher")
    far = cluster.signed(lab, transfer(lab, 1), nonce=1000)
    late = cluster.signed(lab, transfer(lab, 1), nonce=0, valid_until_ms=1)
    for raw, expected in (
        (b"", (-32602, "bad_encoding")),
        (b"\x99", (-32602, "bad_encoding")),
        (foreign, (-32051, "wrong_chain")),
        (forged, (-32012, "bad_signature")),
        (far, (-32011, "nonce_gap")),
        (late, (-32006, "expired")),
    ):
        assert await site.refused("chain_submitTransaction", raw="0x" + raw.hex()) == expected
    sent = await site.ask("chain_submitTransaction", raw="0x" + good.hex())
    with trio.fail_after(5):
        await site.committed(sent["tx_id"])
    assert await site.refused("chain_submitTransaction", raw="0x" + good.hex()) == (
        -32011,
        "bad_nonce",
    )


async def test_pool_without_room_says_when_to_come_again(site: Site) -> None:
    """Full, too much of one account, a gap too wide, too little more: typed, with a time."""
    driver, cluster = site.parts.driver, site.cluster
    driver.state.is_ready = False  # no block makes room meanwhile
    driver.mempool.limits = MempoolLimits(count_max=3, per_sender_max=2, gapped_max=1)
    one, two = cluster.labs[:2]

    def signed(lab: Lab, nonce: int, fee: int = FEE) -> str:
        return "0x" + cluster.signed(lab, transfer(two, 1), nonce=nonce, fee=fee).hex()

    for raw in (signed(one, 0), signed(one, 1), signed(two, 1)):
        await site.ask("chain_submitTransaction", raw=raw)
    for raw, code, reason in (
        (signed(one, 2), -32005, "sender_limited"),
        (signed(one, 9), -32011, "nonce_gap"),
        (signed(one, 1, FEE + FEE // 20), -32014, "fee_too_low"),
        (signed(two, 0), -32005, "mempool_full"),
    ):
        error = await site.error("chain_submitTransaction", raw=raw)
        assert (error["code"], error["data"]["reason"]) == (code, reason)
        assert 0 < error["data"]["retry_after_ms"] <= 10_000
        assert error["data"]["hint"]
    assert len(driver.mempool) == 3


async def test_what_could_never_stand_in_a_block_is_no_matter_of_time(site: Site) -> None:
    """Too small a fee, an account that cannot pay it, a life too long: no time to come again."""
    cluster = site.cluster
    lab, poor = cluster.labs[1], Lab(9, cluster.labs[1].folder)
    payment = transfer(lab, 1)
    for raw, code, reason in (
        (cluster.signed(lab, payment, nonce=0, fee=1), -32014, "fee_too_low"),
        (cluster.signed(poor, payment, nonce=0), -32010, "insufficient_funds"),
        (cluster.signed(lab, payment, nonce=0, valid_until_ms=10**15), -32006, "expired"),
    ):
        error = await site.error("chain_submitTransaction", raw="0x" + raw.hex())
        assert (error["code"], error["data"]["reason"]) == (code, reason)
        assert not error["data"].get("retry_after_ms")
    assert len(site.parts.driver.mempool) == 0


async def test_proof_is_refused_before_the_first_block(site: Site) -> None:
    """Nothing was agreed on yet: it says so, instead of a proof of nothing."""
    key = address_text(site.parts.wallet.address)
    assert await site.refused("chain_getProof", kind="account", key=key) == (-32009, "unsupported")


async def test_proof_verifies_and_a_changed_one_does_not(site: Site) -> None:
    """An account, an absent one, a bond; then each part of the document is changed in turn."""
    await pay(site)
    key = address_text(site.cluster.labs[1].wallet.public_key)
    shown = await site.ask("chain_getProof", kind="account", key=key)
    assert (await site.ask("chain_verifyProof", document=shown))["valid"]
    for kind, other in (("account", UNKNOWN), ("validator", UNKNOWN), ("escrow", UNKNOWN)):
        absent = await site.ask("chain_getProof", kind=kind, key=other)
        assert absent["value"] is None
        assert (await site.ask("chain_verifyProof", document=absent))["valid"]
    for name, value in (
        ("value", "0x00"),
        ("value", None),
        ("proof", "0x"),
        ("header", shown["header"][:-2] + "01"),
        ("certificate", "0x80"),
        ("proof", 7),
        ("header", "no hex"),
    ):
        answer = await site.ask("chain_verifyProof", document=shown | {name: value})
        assert not answer["valid"], name
        assert answer["why"], name
    assert not (await site.ask("chain_verifyProof", document={}))["valid"]
    assert site.faults == []


async def test_proof_of_an_account_whose_bucket_a_thousand_others_fill(tmp_path: Path) -> None:
    """What the node makes it takes: of a presence, and of an absence."""
    strangers = [sha256(number.to_bytes(4, "big")) for number in range(2_200)]
    few = Parameters(tree_bits=1)
    async with open_site(tmp_path, parameters=few, strangers=strangers[1:]) as site:
        await pay(site)
        absent = strangers[0]
        for account in (site.parts.wallet.address, strangers[1], absent):
            key = account_key(account, FTNS)
            shown = await site.ask("chain_getProof", kind="account", key=address_text(account))
            assert (shown["value"] is None) == (account == absent)
            assert len(shown["proof"]) < 20_000
            assert (await site.ask("chain_verifyProof", document=shown))["valid"]
            in_bucket = [
                each
                for each in strangers
                if bucket_index(account_key(each, FTNS), 1) == bucket_index(key, 1)
            ]
            assert len(in_bucket) > 1_024
        assert site.faults == []


@pytest.mark.parametrize(
    "params",
    [
        {"kind": "account", "key": "0x00"},
        {"kind": "account", "key": UNKNOWN, "asset": 2**40},
        {"kind": "model", "key": UNKNOWN},
        {"kind": "nothing", "key": UNKNOWN},
    ],
)
async def test_proof_of_a_malformed_key_is_refused(site: Site, params: dict[str, object]) -> None:
    """Wrong length, an asset no ledger has, an unknown kind."""
    await pay(site)
    assert await site.refused("chain_getProof", **params) == (-32602, "invalid_params")


async def test_supply_is_counted(site: Site) -> None:
    """What the genesis gave is all there is."""
    supply = await site.ask("chain_getSupply")
    parts = ("accounts", "locked", "bonded", "burnt")
    assert sum(int(supply[part]) for part in parts) == int(supply["minted"]) == 2 * BALANCE + STAKE
