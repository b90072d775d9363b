"""validator_ in JSON: bonds of anyone, orders of this home's operator, and their refusals."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import trio

from prsm.node.keys import OPERATOR
from prsm.protocol.ed25519 import Ed25519Signer
from prsm.protocol.ids import address_text
from prsm.storage.keystore import Cost, KeyFile, save_key, save_seed
from tests.tools.labs import BALANCE, PASSWORD, STAKE, Lab
from tests.tools.site import Site, open_site


def bring_keys(site: Site, lab: Lab) -> None:
    """Give the home a lab's operator key (in these networks that of its wallet) and its votes."""
    seed = bytes([lab.index, 3] * 16)
    key_file = KeyFile(OPERATOR, lab.wallet.public_key, Cost.DEVELOPMENT)
    save_key(site.home.operator_key, seed, password=PASSWORD, key_file=key_file)
    save_seed(site.home.consensus_key, lab.consensus_seed)


async def committed(site: Site, method: str, **params: object) -> Any:  # noqa: ANN401 - any JSON
    """Order, and wait for the block; the operator's wallet follows it."""
    sent = await site.ask(method, **params)
    height = site.parts.driver.ledger.height
    with trio.fail_after(5):
        await site.parts.driver.wait_height(height + 1)
    return sent


@pytest.fixture
async def member(tmp_path: Path) -> AsyncIterator[Site]:
    """The home of the only validator, its operator's key open."""
    async with open_site(tmp_path) as site:
        bring_keys(site, site.cluster.labs[0])
        await site.ask("wallet_unlock", name="operator", password=PASSWORD)
        yield site


async def test_a_bond_is_shown_to_anyone(member: Site) -> None:
    """Ours if nobody is named; a stranger has none."""
    ours = await member.ask("validator_get")
    assert (ours["state"], ours["stake"], ours["weight"]) == ("validator", str(STAKE), str(STAKE))
    assert ours["consensus"] == ours["consensus_next"]
    assert (ours["leaving"], ours["epoch"]) == ([], 0)
    stranger = await member.ask("validator_get", operator="0x" + "55" * 32)
    assert (stranger["state"], stranger["weight"], stranger["consensus"]) == ("none", "0", None)


async def test_a_home_without_the_operator_s_key_orders_nothing(tmp_path: Path) -> None:
    """Missing: not found. Locked: what to type, and no new key is left behind."""
    async with open_site(tmp_path) as site:
        assert (await site.error("validator_leave"))["data"]["reason"] == "not_found"
        bring_keys(site, site.cluster.labs[0])
        signers = site.parts.driver.state.config.signers
        for order in ("validator_leave", "validator_rotate"):
            locked = await site.error(order)
            assert locked["data"]["hint"] == "type: prsm wallet unlock operator"
        assert len(site.home.consensus_keys) == 1
        assert site.parts.driver.state.config.signers == signers


async def test_stake_moves_at_once_and_weight_later(member: Site) -> None:
    """What the bond lacks leaves the balance with the block; the sets stay as they are."""
    more = STAKE + 5_000_000
    sent = await committed(member, "validator_setStake", stake=str(more))
    assert sent["acts_in_epoch"] == 2
    bond = await member.ask("validator_get")
    assert (bond["stake"], bond["target"]) == (str(more), str(more))
    assert (bond["weight"], bond["weight_next"]) == (str(STAKE), str(STAKE))
    balance = int((await member.ask("account_getBalance"))["balance"])
    assert balance == BALANCE - 5_000_000 - int(sent["fee"])
    reason = (await member.error("validator_setStake", stake=str(more)))["data"]["reason"]
    assert reason == "bond_state"


async def test_rotation_makes_a_key_that_outlives_a_crash(member: Site) -> None:
    """The new seed lies in the home before anybody hears of it; the old key signs on."""
    before = (await member.ask("validator_get"))["consensus"]
    sent = await committed(member, "validator_rotate")
    bond = await member.ask("validator_get")
    assert (bond["consensus"], bond["consensus_next"]) == (before, sent["consensus"])
    files = member.home.consensus_keys
    assert len(files) == 2
    seeds = {address_text(Ed25519Signer(path.read_bytes()).public_key) for path in files}
    assert seeds == {before, sent["consensus"]}
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in files)
    held = {address_text(s.public_key) for s in member.parts.driver.state.config.signers}
    assert sent["consensus"] in held


async def test_the_last_validator_asks_to_leave(member: Site) -> None:
    """It weighs on until its sets end, and has nothing to take out before."""
    await committed(member, "validator_leave")
    assert (await member.ask("validator_get"))["state"] == "leaving"
    assert await member.refused("validator_leave") == (-32013, "bond_state")
    assert (await member.error("validator_withdraw"))["data"]["reason"] == "bond_state"


async def test_a_member_cannot_join_again(member: Site) -> None:
    """Refused before a new key is made for it."""
    assert await member.refused("validator_join", stake=str(STAKE)) == (-32004, "conflict")
    assert len(member.home.consensus_keys) == 1


async def test_another_operator_cannot_take_the_peer_of_a_validator(tmp_path: Path) -> None:
    """The first validator's home here speaks for another operator."""
    async with open_site(tmp_path) as site:
        bring_keys(site, site.cluster.labs[1])
        await site.ask("wallet_unlock", name="operator", password=PASSWORD)
        assert await site.refused("validator_rotate") == (-32003, "not_found")
        assert await site.refused("validator_join", stake="1") == (-32602, "transaction_refused")
        # One peer works for one bond: this node's is that of the first validator.
        assert await site.refused("validator_join", stake=str(STAKE)) == (-32004, "conflict")
        assert (await site.ask("validator_get"))["state"] == "none"
        # Nobody heard of the home's key yet, so it is the one that would join.
        assert len(site.home.consensus_keys) == 1


async def test_a_follower_brings_no_key_it_could_sign_with(
    member: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It keeps no log: every vote would leave before anything is written."""
    monkeypatch.setattr(member.parts.driver, "_signlog", None)
    signers, keys = member.parts.driver.state.config.signers, member.home.consensus_keys
    monkeypatch.setattr(member.parts.driver.ledger.view, "roster", dict)
    refused = [await member.error("validator_join", stake=str(STAKE))]
    monkeypatch.undo()
    monkeypatch.setattr(member.parts.driver, "_signlog", None)
    refused.append(await member.error("validator_rotate"))
    assert [each["data"]["reason"] for each in refused] == 2 * ["not_a_validator"]
    assert member.parts.driver.state.config.signers == signers
    assert member.home.consensus_keys == keys
