"""The payment key on a chain of one validator: nonces, refusals, waiting, sending again."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import trio

from prsm.consensus.ledger.errors import BadNonce, InsufficientFunds
from prsm.node.chain import wallet as module
from prsm.node.chain.chain import ChainParts
from prsm.node.chain.mempool import MempoolFull
from prsm.node.chain.wallet import RESEND_BYTES_MAX, Wallet, WalletLocked, frames_of
from prsm.node.work.account import Account
from prsm.protocol.errors import BadSignature, WireError, WrongChain
from prsm.protocol.ids import TxId
from prsm.protocol.transactions.envelope import decode_transaction
from prsm.protocol.transactions.payloads import TRANSFER
from prsm.protocol.transactions.results import Code
from prsm.storage.errors import WrongPassword
from tests.tools.labs import BALANCE, MICRO, PASSWORD, Cluster, make_cluster, transfer


@dataclass
class Solo:
    """One validator alone: each transaction is committed within milliseconds."""

    cluster: Cluster
    parts: ChainParts

    @property
    def wallet(self) -> Wallet:
        return self.parts.wallet


@pytest.fixture
async def solo(tmp_path: Path) -> AsyncIterator[Solo]:
    cluster = make_cluster(tmp_path, validators=1, others=1)
    async with cluster.node(0) as parts:
        yield Solo(cluster, parts)


async def test_payment_is_committed_and_found(solo: Solo) -> None:
    """Submitted, waited for, and looked up afterwards: the same place each time."""
    to = solo.cluster.labs[1]
    with trio.fail_after(5):
        tx = await solo.wallet.submit(TRANSFER, transfer(to, 7))
        raw = solo.wallet.pending(tx)
        assert raw is not None
        result = await solo.wallet.wait_committed(tx)
        assert result.receipt.code is Code.DONE
        assert await solo.wallet.find(tx) == result
        assert await solo.wallet.wait_committed(tx) == result, "also when it is long committed"
        assert solo.wallet.pending(tx) is None
    view = solo.parts.driver.ledger.view
    fee = decode_transaction(raw).fee
    assert view.account(to.wallet.public_key) == BALANCE + 7
    assert view.account(solo.wallet.address) == BALANCE - 7 - fee


async def test_too_much_is_refused_before_it_costs_a_fee(solo: Solo) -> None:
    """The ledger is asked first: nothing waits, nothing is sent, the nonce stays."""
    with pytest.raises(InsufficientFunds):
        await solo.wallet.submit(TRANSFER, transfer(solo.cluster.labs[1], 1000 * BALANCE))
    assert len(solo.parts.driver.mempool) == 0
    assert solo.parts.driver.mempool.next_nonce(solo.wallet.address) == 0


async def test_signed_elsewhere_is_checked_as_a_peer_s_would_be(solo: Solo) -> None:
    """Garbage, another network, a changed signature, an old nonce: each its own error."""
    cluster, lab = solo.cluster, solo.cluster.labs[1]
    good = cluster.signed(lab, transfer(lab, 1), nonce=0)
    for raw, error in (
        (b"x", WireError),
        (cluster.signed(lab, transfer(lab, 1), nonce=0, chain_id=b"elsewher"), WrongChain),
        (good[:-1] + bytes([good[-1] ^ 1]), BadSignature),
        (cluster.signed(lab, transfer(lab, 1), nonce=1000), BadNonce),
    ):
        with pytest.raises(error):
            solo.wallet.submit_signed(raw)
    with trio.fail_after(5):
        await solo.wallet.wait_committed(solo.wallet.submit_signed(good))
    with pytest.raises(BadNonce):
        solo.wallet.submit_signed(good)


async def test_node_takes_no_more_when_too_many_wait(
    solo: Solo, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the bound: refused before a nonce is given out, not after."""
    monkeypatch.setattr(module, "PENDING_MAX", 0)
    with pytest.raises(MempoolFull):
        await solo.wallet.submit(TRANSFER, transfer(solo.cluster.labs[1], 1))
    with pytest.raises(MempoolFull):
        solo.wallet.submit_signed(
            solo.cluster.signed(solo.cluster.labs[1], transfer(solo.cluster.labs[0], 1), nonce=0)
        )
    assert len(solo.parts.driver.mempool) == 0


async def test_waiting_for_what_nobody_sent_ends_by_the_caller_s_deadline(solo: Solo) -> None:
    """An unknown id: no answer, and no error of ours."""
    with trio.move_on_after(0.05) as scope:
        await solo.wallet.wait_committed(TxId(bytes(32)))
    assert scope.cancelled_caught


async def test_locked_wallet_signs_nothing_and_says_what_to_type(tmp_path: Path) -> None:
    """Before `unlock`, after `lock`, and with a wrong password: typed errors, an open node."""
    cluster = make_cluster(tmp_path, validators=1, others=1)
    async with cluster.node(0, unlocked=False) as parts:
        payment = transfer(cluster.labs[1], MICRO)
        account = Account(parts.driver, parts.wallet, chain_id=cluster.genesis.chain_id)
        assert parts.wallet.is_locked
        assert account.address == cluster.labs[0].wallet.public_key
        with pytest.raises(WalletLocked) as refused:
            await account.submit(TRANSFER, payment)
        assert refused.value.hint == "type: prsm wallet unlock wallet"
        with pytest.raises(WalletLocked):
            _ = account.signer
        with pytest.raises(WrongPassword):
            await parts.wallet.unlock("guess")
        assert parts.wallet.is_locked
        await parts.wallet.unlock(PASSWORD)
        with trio.fail_after(5):
            result = await account.wait_committed(await account.submit(TRANSFER, payment))
        assert (result.ok, result.code) == (True, "done")
        parts.wallet.lock()
        with pytest.raises(WalletLocked):
            await account.submit(TRANSFER, payment)


async def test_deadline_is_counted_from_now_and_no_farther_than_the_ledger_lets_it(
    solo: Solo,
) -> None:
    """The last block is the genesis, of years ago; a proposer's clock may be behind ours."""
    driver, genesis = solo.parts.driver, solo.cluster.genesis
    account = Account(driver, solo.wallet, chain_id=genesis.chain_id)
    before_ms = driver.clock.wall_ms()
    assert account.deadline_ms(5_000) >= before_ms + 5_000
    limits = genesis.parameters
    most_ms = account.deadline_ms(limits.escrow_ms_max) - driver.clock.wall_ms()
    assert most_ms <= limits.escrow_ms_max - limits.clock_window_ms


def test_pending_transactions_are_cut_into_frames() -> None:
    """Each group fits half a frame, keeps the order, and nothing is lost; none gives none."""
    raws = [bytes([i]) * 60_000 for i in range(30)]
    groups = frames_of(raws)
    assert [raw for group in groups for raw in group] == raws
    assert [len(group) for group in groups] == [8, 8, 8, 6]
    assert all(sum(map(len, group)) <= RESEND_BYTES_MAX for group in groups)
    assert frames_of([]) == []
