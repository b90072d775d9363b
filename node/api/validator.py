"""Handlers of validator_: the operator's key orders, the node's keys prove that they are here.

Knows: ledger view, the home's keys. Must not know: when a set changes (consensus/ledger).
"""

import secrets

from prsm.consensus.ledger.records import Bond
from prsm.node.chain.driver import Driver
from prsm.node.chain.wallet import Wallet
from prsm.node.chain.wallets import Wallets
from prsm.node.clock import utc_text
from prsm.node.home import Home
from prsm.node.keys import OPERATOR
from prsm.node.rpc.dispatch import Handler
from prsm.node.rpc.methods import validator as api
from prsm.node.rpc.spec import Caller, NoParams
from prsm.protocol.codec import Record
from prsm.protocol.ed25519 import SEED_BYTES, Ed25519Signer
from prsm.protocol.errors import LocalError
from prsm.protocol.ids import address_text, parse_hex
from prsm.protocol.transactions.envelope import decode_transaction
from prsm.protocol.transactions.membership import (
    Join,
    Leave,
    Rotate,
    Stake,
    Withdraw,
    prove_possession,
)
from prsm.protocol.transactions.payloads import PAYLOADS
from prsm.protocol.validators import Validator, ValidatorSet
from prsm.storage.errors import Conflict, NotFound
from prsm.storage.keystore import load_seed, save_seed


class NotVoting(LocalError):
    """This node runs without a log of votes, so it can be no validator until it is restarted."""

    reason = "not_a_validator"


class ValidatorApi:
    """Answers about bonds, and orders of this home's operator."""

    def __init__(self, home: Home, wallets: Wallets, driver: Driver) -> None:
        self._home = home
        self._wallets = wallets
        self._driver = driver

    def handlers(self) -> dict[str, Handler]:
        """Method name -> handler."""
        return {
            "validator_get": self.show,
            "validator_join": self.join,
            "validator_setStake": self.stake,
            "validator_rotate": self.rotate,
            "validator_leave": self.leave,
            "validator_withdraw": self.withdraw,
        }

    async def show(self, params: api.OperatorParams, _caller: Caller) -> api.Bond:
        """An operator's bond; of anyone."""
        if params.operator is None:
            operator: bytes = self._operator.address
        else:
            operator = parse_hex(params.operator, size=32, what="operator")
        ledger = self._driver.ledger
        bond = ledger.view.membership(operator)
        now = _member(ledger.epoch.validators, operator)
        following = _member(ledger.epoch.following, operator)
        key = None if bond is None else address_text(bond.consensus)
        return api.Bond(
            operator=address_text(operator),
            state=_state(bond, now, following),
            stake=str(bond.stake if bond else 0),
            target=str(bond.target if bond else 0),
            weight=str(now.stake if now else 0),
            weight_next=str(following.stake if following else 0),
            consensus=address_text(now.consensus) if now else None,
            consensus_next=key,
            peer_id=bond.peer_id if bond else None,
            leaving=tuple(
                api.LeavingInfo(amount=str(part.amount), withdrawable=utc_text(part.release_ms))
                for part in (bond.leaving if bond else ())
            ),
            epoch=ledger.epoch.number,
            height=ledger.height,
        )

    async def join(self, params: api.StakeParams, _caller: Caller) -> api.Ordered:
        """Bond a stake; the home's consensus key, or a new one if that was used before."""
        operator = self._operator
        if operator.address in self._driver.ledger.view.roster():
            raise Conflict(
                "this home's operator is among the validators already",
                hint="to weigh more: prsm validator stake STAKE",
            )
        self._check_log()
        owner = operator.signer.public_key  # a locked wallet refuses before there is a key
        signer = self._unused_key()
        payload = Join(
            consensus=signer.public_key,
            peer_id=self._driver.network.peer_id,
            stake=int(params.stake),
            possession=self._possession(signer, owner),
        )
        return await self._order(payload, signer)

    async def stake(self, params: api.StakeParams, _caller: Caller) -> api.Ordered:
        """Weigh more or less."""
        return await self._order(Stake(target=int(params.stake)))

    async def rotate(self, _params: NoParams, _caller: Caller) -> api.Ordered:
        """A new consensus key in a file of its own; the old one signs until its sets end."""
        operator = self._operator
        if operator.address not in self._driver.ledger.view.roster():
            raise NotFound(
                "this home's operator is not among the validators",
                hint="type: prsm validator join STAKE",
            )
        self._check_log()
        owner = operator.signer.public_key
        signer = self._make_key()
        payload = Rotate(
            consensus=signer.public_key,
            peer_id=self._driver.network.peer_id,
            possession=self._possession(signer, owner),
        )
        return await self._order(payload, signer)

    async def leave(self, _params: NoParams, _caller: Caller) -> api.Ordered:
        """Ask to weigh nothing."""
        return await self._order(Leave())

    async def withdraw(self, _params: NoParams, _caller: Caller) -> api.Ordered:
        """Take out what has left the bond for long enough."""
        return await self._order(Withdraw())

    @property
    def _operator(self) -> Wallet:
        return self._wallets.get(OPERATOR)

    def _possession(self, signer: Ed25519Signer, owner: bytes) -> bytes:
        chain_id = self._driver.ledger.genesis.chain_id
        return prove_possession(signer, chain_id, owner)

    def _check_log(self) -> None:
        """Raise for a follower: what it signed would be written nowhere before it is sent."""
        if not self._driver.can_vote:
            raise NotVoting(
                "this node keeps no log of votes",
                hint="set consensus.validator to true, then: prsm stop; prsm start",
            )

    def _unused_key(self) -> Ed25519Signer:
        """A key of this home that no operator ever brought; a new one if there is none."""
        for path in self._home.consensus_keys:
            signer = Ed25519Signer(load_seed(path))
            if self._driver.ledger.view.key_owner(signer.public_key) is None:
                self._driver.sign_with(signer)
                return signer
        return self._make_key()

    def _make_key(self) -> Ed25519Signer:
        seed = secrets.token_bytes(SEED_BYTES)
        signer = Ed25519Signer(seed)
        # Durable before anybody hears of it: an announced key that is lost stops its validator.
        save_seed(self._home.keys / f"consensus-{signer.public_key.hex()[:16]}.key", seed)
        self._driver.sign_with(signer)
        return signer

    async def _order(self, payload: Record, signer: Ed25519Signer | None = None) -> api.Ordered:
        wallet = self._operator
        tx_id = await wallet.submit(PAYLOADS.number(type(payload)), payload)
        raw = wallet.pending(tx_id)
        assert raw is not None, "just submitted"
        return api.Ordered(
            tx_id=address_text(tx_id),
            operator=address_text(wallet.address),
            fee=str(decode_transaction(raw).fee),
            consensus=address_text(signer.public_key) if signer else None,
            # The sets of this epoch and the next are fixed.
            acts_in_epoch=self._driver.ledger.epoch.number + 2,
        )


def _member(validators: ValidatorSet, operator: bytes) -> Validator | None:
    found = (each for each in validators.validators if each.operator == operator)
    return next(found, None)


def _state(bond: Bond | None, now: Validator | None, following: Validator | None) -> api.BondWord:
    if bond is None:
        return "none"
    if bond.tombstoned:
        return "convicted"
    if now is not None:
        return "validator" if bond.target else "leaving"
    if following is not None or bond.target:
        return "waiting"
    return "gone"
