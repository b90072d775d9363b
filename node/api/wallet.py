"""Handlers of account_ and wallet_: balances of anyone, keys of this home.

Knows: ledger view and wallets. Must not know: transports.
"""

from prsm.node.clock import utc_text
from prsm.node.driver import Driver
from prsm.node.rpc.dispatch import Handler
from prsm.node.rpc.methods import wallet as api
from prsm.node.rpc.spec import Caller, NoParams
from prsm.node.wallets import Wallets
from prsm.protocol.ids import FTNS, address_text, parse_hex
from prsm.protocol.transactions.envelope import decode_transaction
from prsm.protocol.transactions.payloads import TRANSFER, Transfer


class WalletApi:
    """Answers about accounts and signs for this home's keys."""

    def __init__(self, wallets: Wallets, driver: Driver) -> None:
        self._wallets = wallets
        self._driver = driver

    def handlers(self) -> dict[str, Handler]:
        """Method name -> handler."""
        return {
            "account_getBalance": self.balance,
            "account_getNonce": self.nonce,
            "wallet_listKeys": self.keys,
            "wallet_createKey": self.create,
            "wallet_unlock": self.unlock,
            "wallet_transfer": self.transfer,
        }

    async def balance(self, params: api.AccountParams, _caller: Caller) -> api.Balance:
        """Committed micro-FTNS of an account."""
        address, ledger = self._address(params), self._driver.ledger
        return api.Balance(
            address=address_text(address),
            balance=str(ledger.view.account(address)),
            bonded=str(ledger.view.bond(address)),
            nonce=ledger.view.nonce(address),
            height=ledger.height,
        )

    async def nonce(self, params: api.AccountParams, _caller: Caller) -> api.Nonce:
        """The next nonce, committed and behind what waits in this node's pool."""
        address, driver = self._address(params), self._driver
        return api.Nonce(
            address=address_text(address),
            nonce=driver.ledger.view.nonce(address),
            pending=driver.mempool.next_nonce(address),
            height=driver.ledger.height,
        )

    async def keys(self, _params: NoParams, _caller: Caller) -> api.Keys:
        """All payment keys of this home."""
        return api.Keys(items=tuple(self._info(name) for name in self._wallets.names()))

    async def create(self, params: api.CreateKeyParams, _caller: Caller) -> api.KeyInfo:
        """Make a payment key."""
        await self._wallets.create(params.name, params.password)
        return self._info(params.name)

    async def unlock(self, params: api.UnlockParams, _caller: Caller) -> api.Unlocked:
        """Open a payment key for a while."""
        wallet = await self._wallets.unlock(params.name, params.password, ttl_s=params.ttl_s)
        until = self._driver.clock.wall_ms() + params.ttl_s * 1000
        return api.Unlocked(
            name=params.name, address=address_text(wallet.address), until=utc_text(until)
        )

    async def transfer(self, params: api.TransferParams, _caller: Caller) -> api.Transferred:
        """Pay micro-FTNS from a key of this home."""
        wallet = self._wallets.get(params.name)
        to = parse_hex(params.to, size=32, what="account")
        payload = Transfer(asset=FTNS, to=to, amount=int(params.amount), memo=b"")
        tx_id = await wallet.submit(TRANSFER, payload)
        raw = wallet.pending(tx_id)
        assert raw is not None, "just submitted"
        sent = decode_transaction(raw)
        return api.Transferred(
            tx_id=address_text(tx_id),
            sender=address_text(wallet.address),
            to=params.to,
            amount=params.amount,
            fee=str(sent.fee),
            nonce=sent.nonce,
        )

    def _address(self, params: api.AccountParams) -> bytes:
        if params.address is None:
            return self._wallets.default.address
        return parse_hex(params.address, size=32, what="account")

    def _info(self, name: str) -> api.KeyInfo:
        wallet = self._wallets.get(name)
        return api.KeyInfo(
            name=name, address=address_text(wallet.address), unlocked=not wallet.is_locked
        )
