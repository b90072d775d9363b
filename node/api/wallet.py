"""Handlers of account_ and wallet_: balances of anyone, keys of this home.

Knows: ledger view and wallets. Must not know: transports.
"""

from prsm.consensus.ledger.reputation import audit_bps
from prsm.node.api.keys import KeysApi
from prsm.node.api.ledger import kind_called
from prsm.node.api.readable import BadDocument, record_of
from prsm.node.chain.driver import Driver
from prsm.node.chain.wallets import Wallets
from prsm.node.clock import utc_text
from prsm.node.rpc.dispatch import Handler
from prsm.node.rpc.methods import wallet as api
from prsm.node.rpc.spec import Caller, NoParams
from prsm.protocol.ids import FTNS, address_text, parse_hex
from prsm.protocol.transactions.conditions import Hold, hold_id
from prsm.protocol.transactions.conditions import approve as sign_approval
from prsm.protocol.transactions.envelope import decode_transaction
from prsm.protocol.transactions.payloads import TRANSFER, Transfer
from prsm.storage.errors import NotFound


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
            "account_getStanding": self.standing,
            "wallet_listKeys": self.keys,
            "wallet_createKey": self.create,
            "wallet_unlock": self.unlock,
            "wallet_transfer": self.transfer,
            "wallet_submit": self.submit,
            "wallet_approve": self.approve,
            **KeysApi(
                self._wallets, development=self._driver.ledger.genesis.development
            ).handlers(),
        }

    async def balance(self, params: api.AccountParams, _caller: Caller) -> api.Balance:
        """Committed micro-FTNS of an account."""
        address, ledger = self._address(params), self._driver.ledger
        await self._driver.wait_height(params.min_height)
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
        await driver.wait_height(params.min_height)
        return api.Nonce(
            address=address_text(address),
            nonce=driver.ledger.view.nonce(address),
            pending=driver.mempool.next_nonce(address),
            height=driver.ledger.height,
        )

    async def standing(self, params: api.AccountParams, _caller: Caller) -> api.Standing:
        """What an account has pledged, and how its work was."""
        address, ledger = self._address(params), self._driver.ledger
        await self._driver.wait_height(params.min_height)
        view = ledger.view
        pledged, record = view.pledge(address), view.standing(address)
        listed = (entry.since for entry in view.pledgers() if entry.account == address)
        return api.Standing(
            address=address_text(address),
            pledged=str(pledged.amount),
            held=str(pledged.held),
            auditor_since=next(listed, None),
            settled=record.settled,
            faults=record.faults,
            clean=record.clean,
            audit_bps=audit_bps(record, ledger.parameters.audit_bps, reserve=1),
            height=ledger.height,
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

    async def submit(self, params: api.SubmitParams, _caller: Caller) -> api.Submitted:
        """Sign and send a transaction of any kind."""
        wallet = self._wallets.get(params.name)
        number, shape = kind_called(params.kind)
        payload = record_of(params.payload, shape)
        tx_id = await wallet.submit(number, payload)
        raw = wallet.pending(tx_id)
        assert raw is not None, "just submitted"
        sent = decode_transaction(raw)
        hold = None
        if isinstance(payload, Hold):
            hold = address_text(hold_id(sent.chain_id, sent.sender, payload))
        return api.Submitted(
            tx_id=address_text(tx_id),
            kind=params.kind,
            sender=address_text(sent.sender),
            fee=str(sent.fee),
            nonce=sent.nonce,
            hold=hold,
        )

    async def approve(self, params: api.ApproveParams, _caller: Caller) -> api.Approved:
        """Consent to a branch of a hold that is open."""
        ledger = self._driver.ledger
        hold = parse_hex(params.hold, size=32, what="hold")
        held = ledger.view.hold(hold)
        if held is None:
            raise NotFound(f"no hold {params.hold}", hint="see: prsm chain holds ADDRESS")
        if params.branch >= len(held.terms.branches):
            raise BadDocument(f"branch {params.branch} of {len(held.terms.branches)} branches")
        signer = self._wallets.get(params.name).signer
        made = sign_approval(ledger.genesis.chain_id, hold, params.branch, signer)
        return api.Approved(key=address_text(made.key), signature="0x" + made.signature.hex())

    def _address(self, params: api.AccountParams) -> bytes:
        if params.address is None:
            return self._wallets.default.address
        return parse_hex(params.address, size=32, what="account")

    def _info(self, name: str) -> api.KeyInfo:
        wallet = self._wallets.get(name)
        return api.KeyInfo(
            name=name, address=address_text(wallet.address), unlocked=not wallet.is_locked
        )
