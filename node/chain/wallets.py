"""The keys of a home that sign transactions: one works for the node, one owns its stake.

Knows: names, files, which are open and until when. Must not know: payloads.
"""

import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import trio

from prsm.node.chain.admission import Admission
from prsm.node.chain.driver import Driver
from prsm.node.chain.wallet import Wallet
from prsm.node.home import Home
from prsm.node.keys import OPERATOR, WALLET, BadKey
from prsm.node.supervise import Supervisor
from prsm.protocol.ed25519 import SEED_BYTES, Ed25519Signer
from prsm.protocol.errors import LocalError
from prsm.protocol.genesis import Genesis
from prsm.storage.errors import Conflict, NotFound
from prsm.storage.keystore import Cost, KeyFile, load_key, save_key

KEYS_MAX: Final = 64
DEFAULT: Final = "default"


@dataclass(frozen=True, slots=True)
class Payer:
    """What paying needs: the ledger's rules, the driver, the door for own transactions."""

    genesis: Genesis
    driver: Driver
    admission: Admission


class Wallets:
    """All keys under `keys/wallet/`."""

    def __init__(self, home: Home, account: Payer, default: Wallet) -> None:
        self._home = home
        self._account = account
        self._open: dict[str, Wallet] = {DEFAULT: default}
        self._lockers: dict[str, trio.CancelScope] = {}
        self._nursery: trio.Nursery | None = None

    @property
    def default(self) -> Wallet:
        """The node's own payment key."""
        return self._open[DEFAULT]

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Keep the other keys' transactions moving until cancelled."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            for name, wallet in self._open.items():
                if name != DEFAULT:  # asked for before this ran
                    nursery.start_soon(Supervisor(f"wallet {name}").run, wallet.run)
            task_status.started()
            await trio.sleep_forever()

    def names(self) -> list[str]:
        """Names of all keys, sorted; the operator's is among them."""
        paths = [self._home.operator_key, *self._home.wallets.glob("*.key")]
        return sorted({path.stem for path in paths if path.exists()})[:KEYS_MAX]

    def get(self, name: str) -> Wallet:
        """The wallet of a key, locked or not.

        Raises:
            NotFound: no key of that name.
        """
        if name not in self._open:
            if name not in self.names():
                raise NotFound(f"no payment key is called {name!r}", hint="see: prsm wallet ls")
            is_operator = name == OPERATOR
            wallet = Wallet(
                self._home.operator_key if is_operator else self._home.wallet_key(name),
                purpose=OPERATOR if is_operator else WALLET,
                genesis=self._account.genesis,
                driver=self._account.driver,
                admission=self._account.admission,
            )
            self._open[name] = wallet
            if self._nursery is not None:
                self._nursery.start_soon(Supervisor(f"wallet {name}").run, wallet.run)
        return self._open[name]

    async def create(self, name: str, password: str) -> Wallet:
        """Make a new key, encrypted under a password.

        Raises:
            Conflict: the name is taken.
            LocalError: too many keys.
        """
        self._check_name(name)
        return await self._keep(name, secrets.token_bytes(SEED_BYTES), password)

    async def take(self, name: str, seed: bytes, password: str) -> Wallet:
        """Keep a key that was made elsewhere, encrypted under a password.

        Raises:
            Conflict: the name is taken, or a key of this home has this seed.
            LocalError: too many keys, no 32 bytes, or an empty password.
        """
        self._check_name(name)
        if len(seed) != SEED_BYTES:
            raise BadKey(f"a key has {SEED_BYTES} bytes, not {len(seed)}")
        address = Ed25519Signer(seed).public_key
        for other in self.names():
            if self.get(other).address == address:
                raise Conflict(f"the key {other!r} of this home is the same one")
        return await self._keep(name, seed, password)

    async def read(self, name: str, password: str) -> bytes:
        """The seed of a key, for who knows its password.

        Raises:
            NotFound: no key of that name.
            WrongPassword: wrong password, or the file was changed.
        """
        path, purpose = self._place(name)
        development = self._account.genesis.development

        def load() -> bytes:
            return load_key(path, password=password, purpose=purpose, development=development)

        return await trio.to_thread.run_sync(load)

    async def change_password(self, name: str, password: str, new_password: str) -> None:
        """Encrypt a key anew; atomically: the file opens with the one or the other.

        Raises:
            NotFound: no key of that name.
            WrongPassword: the present one is another.
            Full, StoreUnavailable: the disk refused; the old password stays.
        """
        seed = await self.read(name, password)
        path, purpose = self._place(name)
        key_file = KeyFile(purpose, Ed25519Signer(seed).public_key, self._cost)

        def save() -> None:
            save_key(path, seed, password=new_password, key_file=key_file, replace=True)

        await trio.to_thread.run_sync(save)

    def lock(self, name: str) -> Wallet:
        """Forget a decrypted key now.

        Raises:
            NotFound: no key of that name.
        """
        wallet = self.get(name)
        locker = self._lockers.pop(name, None)
        if locker is not None:
            locker.cancel()
        wallet.lock()
        return wallet

    @property
    def _cost(self) -> Cost:
        return Cost.DEVELOPMENT if self._account.genesis.development else Cost.NORMAL

    def _place(self, name: str) -> tuple[Path, str]:
        """File and purpose of a key that is there."""
        self.get(name)
        if name == OPERATOR:
            return self._home.operator_key, OPERATOR
        return self._home.wallet_key(name), WALLET

    def _check_name(self, name: str) -> None:
        if name == OPERATOR:
            raise Conflict("the key that owns this node's stake is called 'operator'")
        if name in self.names():
            raise Conflict(f"a key is called {name!r} already", hint="choose another name")
        if len(self.names()) >= KEYS_MAX:
            raise LocalError(f"{KEYS_MAX} payment keys, no more are kept in one home")

    async def _keep(self, name: str, seed: bytes, password: str) -> Wallet:
        key_file = KeyFile(WALLET, Ed25519Signer(seed).public_key, self._cost)

        def save() -> None:
            save_key(self._home.wallet_key(name), seed, password=password, key_file=key_file)

        await trio.to_thread.run_sync(save)
        return self.get(name)

    async def unlock(self, name: str, password: str, *, ttl_s: float) -> Wallet:
        """Open a key for a while.

        Raises:
            NotFound: no key of that name.
            WrongPassword: wrong password, or the file was changed.
        """
        wallet = self.get(name)
        was_open = not wallet.is_locked and name not in self._lockers
        await wallet.unlock(password)
        # The node's own key, opened at start, stays open: work in progress is signed with it.
        if not was_open and self._nursery is not None:
            if name in self._lockers:
                self._lockers[name].cancel()
            scope = self._lockers[name] = trio.CancelScope()
            self._nursery.start_soon(self._lock_later, wallet, scope, ttl_s)
        return wallet

    @staticmethod
    async def _lock_later(wallet: Wallet, scope: trio.CancelScope, ttl_s: float) -> None:
        with scope:
            await trio.sleep(ttl_s)
            wallet.lock()
