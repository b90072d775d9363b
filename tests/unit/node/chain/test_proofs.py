"""What a node shows strangers: state under a certified root, receipts of settled jobs."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio

from prsm.consensus.ledger import records
from prsm.consensus.light import Trust
from prsm.node.chain.proofs import Proofs
from prsm.protocol.ed25519 import Ed25519Verifier
from prsm.protocol.errors import PrsmError, Unsupported
from prsm.protocol.ids import FTNS
from prsm.protocol.transactions.payloads import TRANSFER
from prsm.storage.errors import NotFound
from tests.tools.labs import make_cluster, transfer
from tests.tools.site import Site, open_site


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with open_site(tmp_path) as opened:
        yield opened


def proofs_of(site: Site) -> Proofs:
    return Proofs(site.cluster.genesis, site.parts.driver)


async def pay(site: Site) -> int:
    wallet = site.parts.wallet
    with trio.fail_after(5):
        tx = await wallet.submit(TRANSFER, transfer(site.cluster.labs[1], 5))
        return (await wallet.wait_committed(tx)).height


async def test_nothing_can_be_shown_before_a_block(site: Site) -> None:
    """Right after a start: typed, and it says to ask again."""
    with pytest.raises(Unsupported) as refused:
        await proofs_of(site).of_state(records.account_key(site.parts.wallet.address, FTNS))
    assert "next block" in refused.value.hint


async def test_state_holds_for_whoever_trusts_the_genesis(site: Site) -> None:
    """A light client believes the entry, its absence, and nothing with another network's trust."""
    await pay(site)
    proofs = proofs_of(site)
    trust = Trust.of_genesis(site.cluster.genesis, Ed25519Verifier())
    key = records.account_key(site.parts.wallet.address, FTNS)
    assert trust.check_state(await proofs.of_state(key)) is not None
    absent = records.account_key(b"n" * 32, FTNS)
    assert trust.check_state(await proofs.of_state(absent)) is None


async def test_another_network_s_trust_refuses_the_proof(site: Site, tmp_path: Path) -> None:
    """A genesis with other validators: typed, never believed."""
    await pay(site)
    (tmp_path / "other").mkdir()
    other = make_cluster(tmp_path / "other", validators=2)
    trust = Trust.of_genesis(other.genesis, Ed25519Verifier())
    key = records.account_key(site.parts.wallet.address, FTNS)
    with pytest.raises(PrsmError):
        trust.check_state(await proofs_of(site).of_state(key))


async def test_block_is_shown_with_its_certificate(site: Site) -> None:
    """The certificate names the block; a height nobody reached is not found."""
    height = await pay(site)
    shown = await proofs_of(site).certified(height)
    assert shown.block.header.height == shown.certificate.height == height
    with pytest.raises(NotFound):
        await proofs_of(site).certified(10**6)


async def test_unknown_job_has_no_receipt(site: Site) -> None:
    """Typed, with the command that lists jobs."""
    with pytest.raises(NotFound) as refused:
        await proofs_of(site).of_job(b"j" * 32)
    assert "prsm job ls" in refused.value.hint


async def test_epochs_are_shown_from_the_first_on_and_none_that_has_not_begun(site: Site) -> None:
    """What a reader walks along; a set that nobody announced here is no trust."""
    await pay(site)
    proofs = proofs_of(site)
    (first,) = await proofs.epochs(0, 0)
    assert (first.header.height, first.members.epoch) == (1, 0)
    trust = Trust.of_genesis(site.cluster.genesis, Ed25519Verifier())
    trust.check_header(first.header, first.certificate)
    assert (await proofs.trust(0)).validators == trust.validators
    assert (await proofs.trust(1)).validators.digest == first.header.next_validators_hash
    for wrong in ((0, 1), (7, 7)):
        with pytest.raises(NotFound, match="not all here"):
            await proofs.epochs(*wrong)
    with pytest.raises(NotFound):
        await proofs.trust(9)
