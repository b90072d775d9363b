"""The payment keys of a home: made, named, opened for a while."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import trio

from prsm.node.chain import wallets as module
from prsm.node.chain.chain import ChainParts
from prsm.node.chain.wallet import Wallet
from prsm.node.chain.wallets import Payer, Wallets
from prsm.node.home import Home
from prsm.node.keys import OPERATOR
from prsm.protocol.ed25519 import Ed25519Signer
from prsm.protocol.errors import LocalError
from prsm.storage.errors import Conflict, NotFound, WrongPassword
from prsm.storage.keystore import Cost, KeyFile, save_key
from tests.tools.labs import PASSWORD, make_cluster


@dataclass
class Keys:
    wallets: Wallets
    parts: ChainParts
    home: Home


@pytest.fixture
async def keys(tmp_path: Path, nursery: trio.Nursery) -> AsyncIterator[Keys]:
    cluster = make_cluster(tmp_path, validators=1)
    home = Home(tmp_path / "home")
    home.create()
    home.wallet_key("default").write_bytes((cluster.labs[0].folder / "wallet.key").read_bytes())
    home.wallet_key("default").chmod(0o600)
    async with cluster.node(0) as parts:
        wallets = Wallets(home, Payer(cluster.genesis, parts.driver, parts.admission), parts.wallet)
        await nursery.start(wallets.run)
        yield Keys(wallets, parts, home)
        nursery.cancel_scope.cancel()


async def test_new_key_is_listed_and_locked(keys: Keys) -> None:
    """Made, listed beside the default, encrypted until its password is given."""
    made = await keys.wallets.create("spare", "secret")
    assert keys.wallets.names() == ["default", "spare"]
    assert keys.wallets.get("spare") is made
    assert made.is_locked
    assert made.address != keys.wallets.default.address


async def test_taken_and_unknown_names_are_refused(keys: Keys) -> None:
    """A second key of a name, a key nobody made, a path instead of a name."""
    await keys.wallets.create("spare", "secret")
    with pytest.raises(Conflict):
        await keys.wallets.create("spare", "other")
    for name in ("nobody", "../keys/wallet/spare", ""):
        with pytest.raises(NotFound):
            keys.wallets.get(name)


async def test_keys_are_bounded(keys: Keys, monkeypatch: pytest.MonkeyPatch) -> None:
    """A home keeps so many and no more."""
    monkeypatch.setattr(module, "KEYS_MAX", 1)
    with pytest.raises(LocalError, match="no more"):
        await keys.wallets.create("spare", "secret")


def locked(wallet: Wallet) -> bool:
    """Asked anew: a type checker takes a property for constant."""
    return wallet.is_locked


async def test_key_is_open_for_a_while_only(keys: Keys) -> None:
    """Unlocked for 10 ms, then locked; a later unlock counts anew."""
    await keys.wallets.create("spare", "secret")
    with pytest.raises(WrongPassword):
        await keys.wallets.unlock("spare", "guess", ttl_s=1)
    wallet = await keys.wallets.unlock("spare", "secret", ttl_s=0.01)
    assert not locked(wallet)
    await trio.sleep(0.03)
    assert locked(wallet)
    await keys.wallets.unlock("spare", "secret", ttl_s=0.01)
    await keys.wallets.unlock("spare", "secret", ttl_s=60)
    await trio.sleep(0.03)
    assert not locked(wallet), "the longer one counts"


async def test_two_unlocks_at_once_are_one(keys: Keys) -> None:
    """Both callers get the key, and nothing breaks when one of the times is over."""
    await keys.wallets.create("spare", "secret")
    async with trio.open_nursery() as nursery:
        for _ in range(8):
            nursery.start_soon(_unlock, keys.wallets)
    await trio.sleep(0.03)
    assert keys.wallets.get("spare").is_locked


async def _unlock(wallets: Wallets) -> None:
    await wallets.unlock("spare", "secret", ttl_s=0.01)


async def test_node_s_own_key_stays_open_when_it_was_open_from_the_start(keys: Keys) -> None:
    """Work in progress is signed with it: a later unlock for a while does not close it."""
    await keys.wallets.unlock("default", PASSWORD, ttl_s=0.01)
    await trio.sleep(0.05)
    assert not keys.wallets.default.is_locked


async def test_node_s_own_key_closes_when_it_was_locked_at_the_start(keys: Keys) -> None:
    """Started without a password: opened for a while, then closed."""
    keys.parts.wallet.lock()
    await keys.wallets.unlock("default", PASSWORD, ttl_s=0.01)
    await trio.sleep(0.05)
    assert keys.wallets.default.is_locked


async def test_operator_s_key_is_opened_by_its_name_alone(keys: Keys) -> None:
    """It owns the stake: listed if the home has it, of its own purpose, never made anew."""
    assert keys.wallets.names() == ["default"]
    with pytest.raises(NotFound):
        keys.wallets.get("operator")
    with pytest.raises(Conflict, match="operator"):
        await keys.wallets.create("operator", "secret")
    key_file = KeyFile(OPERATOR, Ed25519Signer(bytes(32)).public_key, Cost.DEVELOPMENT)
    save_key(keys.home.operator_key, bytes(32), password=PASSWORD, key_file=key_file)
    assert keys.wallets.names() == ["default", "operator"]
    wallet = await keys.wallets.unlock("operator", PASSWORD, ttl_s=5)
    assert wallet.signer.public_key == key_file.public


async def test_payment_key_in_the_operator_s_place_is_refused(keys: Keys) -> None:
    """A file says what its key is for; one for payments never signs for the stake."""
    keys.home.operator_key.write_bytes(keys.home.wallet_key("default").read_bytes())
    keys.home.operator_key.chmod(0o600)
    with pytest.raises(LocalError):
        await keys.wallets.unlock("operator", PASSWORD, ttl_s=5)
    assert keys.wallets.get("operator").is_locked
