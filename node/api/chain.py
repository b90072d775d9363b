"""Handlers of consensus_ and chain_: what was agreed on, and the proofs of it.

Knows: ledger, store and replica, read only. Must not know: transports.
"""

from typing import Final, TypeVar

import msgspec

from prsm.node.api.provable import state_key
from prsm.node.api.readable import readable_record
from prsm.node.chain.driver import Driver
from prsm.node.chain.history import block_of, certificate_of, receipts_of
from prsm.node.chain.proofs import Proofs
from prsm.node.chain.sync import Pruned, encode_certified
from prsm.node.chain.wallet import TxResult, Wallet
from prsm.node.clock import utc_text
from prsm.node.rpc.dispatch import Handler
from prsm.node.rpc.methods import chain as api
from prsm.node.rpc.spec import Caller, NoParams
from prsm.protocol import merkle
from prsm.protocol.certificates import Certificate
from prsm.protocol.codec import decode, encode
from prsm.protocol.errors import LocalError, PrsmError
from prsm.protocol.genesis import Genesis
from prsm.protocol.headers import Header
from prsm.protocol.ids import TxId, address_text, parse_hex
from prsm.protocol.limits import TRANSACTION_BYTES_MAX
from prsm.protocol.proofs import PROOF_BYTES_MAX, InclusionProof, ProvenState, StateProof
from prsm.protocol.transactions.envelope import Transaction, decode_transaction, transaction_id
from prsm.protocol.transactions.payloads import PAYLOADS
from prsm.protocol.transactions.results import Code, TxReceipt
from prsm.protocol.validators import ValidatorSet
from prsm.storage.errors import NotFound
from prsm.storage.ledger import StoredBlock

R = TypeVar("R")
# Twice that in hex; an answer is read as a whole by the client and shares the door with others.
CERTIFIED_BYTES_MAX: Final = 1024 * 1024


class ChainApi:
    """Answers about blocks, transactions and state."""

    def __init__(self, genesis: Genesis, driver: Driver, wallet: Wallet, proofs: Proofs) -> None:
        self._genesis = genesis
        self._driver = driver
        self._wallet = wallet
        self._proofs = proofs

    def handlers(self) -> dict[str, Handler]:
        """Method name -> handler."""
        return {
            "consensus_getState": self.state,
            "consensus_getRound": self.round,
            "consensus_getValidators": self.validators,
            "chain_getStatus": self.status,
            "chain_getSupply": self.supply,
            "chain_getBlock": self.block,
            "chain_getCertified": self.certified,
            "chain_getTransaction": self.transaction,
            "chain_getReceipt": self.receipt,
            "chain_submitTransaction": self.submit,
            "chain_getProof": self.proof,
            "chain_verifyProof": self.verify,
        }

    async def state(self, _params: NoParams, _caller: Caller) -> api.ConsensusState:
        """Where agreement stands."""
        state, tip = self._driver.state, self._driver.ledger.tip
        instance = state.instance
        return api.ConsensusState(
            height=tip.height,
            view=instance.view,
            phase=instance.phase.name.lower(),
            epoch=self._driver.validators.epoch,
            proposer=instance.schedule.at(instance.view),
            signer_index=instance.own,
            head_hash=address_text(tip.block_hash),
            head_time=utc_text(tip.time_ms) if tip.height else None,
        )

    async def validators(self, params: api.EpochParams, _caller: Caller) -> api.Validators:
        """Who votes, with which stake."""
        if params.epoch is None:
            return _validators(self._driver.validators)
        return _validators((await self._proofs.trust(params.epoch)).validators)

    async def round(self, _params: NoParams, _caller: Caller) -> api.Round:
        """Where each validator stands in the agreement on the next block."""
        driver, state = self._driver, self._driver.state
        instance, epoch, now = state.instance, state.tip.epoch, driver.clock.monotonic_ms()
        silent = {peer: now - at for peer, at in state.heard_at_ms.items()}
        silent[driver.network.peer_id] = 0
        return api.Round(
            height=instance.height,
            view=instance.view,
            phase=instance.phase.value,
            proposer=instance.schedule.at(instance.view),
            epoch=epoch.number,
            epoch_first=epoch.first,
            low_mark=state.low,
            silent_because=driver.stopped,
            quorum=str(epoch.validators.quorum),
            members=tuple(
                api.RoundMember(
                    index=index,
                    operator=address_text(member.operator),
                    peer_id=member.peer_id,
                    stake=str(member.stake),
                    silent_ms=silent.get(member.peer_id),
                )
                for index, member in enumerate(epoch.validators.validators)
            ),
            following=_validators(epoch.following),
        )

    async def status(self, _params: NoParams, _caller: Caller) -> api.ChainStatus:
        """The ledger in one look."""
        ledger = self._driver.ledger
        tip = ledger.tip
        return api.ChainStatus(
            network=self._genesis.name,
            chain_id="0x" + self._genesis.chain_id.hex(),
            genesis_hash=address_text(self._genesis.digest),
            development=self._genesis.development,
            height=tip.height,
            head_hash=address_text(tip.block_hash),
            state_root=address_text(ledger.state_root),
            head_time=utc_text(tip.time_ms) if tip.height else None,
            epoch=self._driver.validators.epoch,
            validators=len(self._driver.validators),
            supply=str(ledger.view.supply().minted),
            transactions=await self._driver.store.count_transactions(),
            mempool=len(self._driver.mempool),
        )

    async def supply(self, _params: NoParams, _caller: Caller) -> api.Supply:
        """All micro-FTNS, counted."""
        ledger = self._driver.ledger
        totals = ledger.view.supply()
        return api.Supply(
            height=ledger.height,
            minted=str(totals.minted),
            accounts=str(ledger.view.in_accounts()),
            locked=str(totals.locked),
            bonded=str(totals.bonded),
            burnt=str(totals.burnt),
        )

    async def block(self, params: api.BlockParams, _caller: Caller) -> api.BlockInfo:
        """A block by height or hash; the newest without either."""
        store = self._driver.store
        if params.hash is not None:
            stored = await store.block_by_hash(parse_hex(params.hash, size=32, what="block hash"))
        else:
            stored = await store.block(params.height or self._driver.ledger.height)
        if stored is None:
            raise NotFound(
                f"no such block here, the newest is {self._driver.ledger.height}",
                hint="see: prsm chain status",
            )
        return _block_info(stored, self._driver.validators)

    async def certified(self, params: api.CertifiedParams, _caller: Caller) -> api.CertifiedBlocks:
        """Blocks with certificates from a height on, as many as one answer holds."""
        newest = self._driver.ledger.height
        last = min(params.last or newest, newest)
        found = await self._driver.store.blocks(params.first, last, bytes_max=CERTIFIED_BYTES_MAX)
        return api.CertifiedBlocks(
            height=newest,
            items=tuple(
                "0x" + encode_certified(item.block, item.certificate).hex() for item in found
            ),
        )

    async def transaction(self, params: api.TxParams, _caller: Caller) -> api.TransactionInfo:
        """A transaction of the ledger, or one of ours on its way."""
        tx_id = TxId(parse_hex(params.tx_id, size=32, what="transaction id"))
        # Before the ledger is looked at: a block may come between the two looks.
        raw = self._wallet.pending(tx_id)
        found = await self._wallet.find(tx_id)
        if found is not None:
            block = block_of(await self._stored(found.height))
            return _transaction_info(block.body.transactions[found.index], found)
        if raw is None:
            raise _no_transaction(params.tx_id)
        return _transaction_info(raw, None)

    async def receipt(self, params: api.TxParams, _caller: Caller) -> api.TransactionReceipt:
        """How a transaction ended, with its place under the next header's receipts root."""
        tx_id = TxId(parse_hex(params.tx_id, size=32, what="transaction id"))
        found = await self._wallet.find(tx_id)
        if found is None:
            raise _no_transaction(params.tx_id)
        stored = await self._stored(found.height)
        items = receipts_of(stored)
        place = InclusionProof(
            index=found.index, count=len(items), path=merkle.proof(items, found.index)
        )
        return api.TransactionReceipt(
            tx_id=params.tx_id,
            height=found.height,
            index=found.index,
            ok=found.receipt.code is Code.DONE,
            why=_why(found.receipt),
            fee=str(found.receipt.fee),
            receipt="0x" + items[found.index].hex(),
            proof="0x" + encode(place).hex(),
        )

    async def submit(self, params: api.SubmitParams, _caller: Caller) -> api.Submitted:
        """Take a transaction somebody signed elsewhere."""
        raw = bytes.fromhex(params.raw[2:])
        return api.Submitted(tx_id=address_text(self._wallet.submit_signed(raw)))

    async def proof(self, params: api.ProofParams, _caller: Caller) -> api.StateProof:
        """A ledger record under a certified state root."""
        proven = await self._proofs.of_state(state_key(params))
        trust = await self._proofs.trust(proven.header.epoch)
        value = trust.check_state(proven)
        return api.StateProof(
            kind=params.kind,
            key=params.key,
            value=None if value is None else "0x" + value.hex(),
            height=proven.header.height,
            state_root=address_text(proven.header.state_root),
            proof="0x" + encode(proven.proof).hex(),
            header="0x" + encode(proven.header).hex(),
            certificate="0x" + encode(proven.certificate).hex(),
        )

    async def verify(self, params: api.VerifyParams, _caller: Caller) -> api.Verified:
        """Check the answer of chain_getProof against this node's validators."""
        try:
            shown = msgspec.convert(params.document, api.StateProof)
            proven = ProvenState(
                proof=_unhex(shown.proof, StateProof),
                header=decode_header(shown.header),
                certificate=_unhex(shown.certificate, Certificate),
            )
            trust = await self._proofs.trust(proven.header.epoch)
            value = trust.check_state(proven)
        except (msgspec.ValidationError, PrsmError) as error:
            return api.Verified(
                valid=False, height=0, state_root=address_text(bytes(32)), why=str(error)
            )
        same = shown.value == (None if value is None else "0x" + value.hex())
        return api.Verified(
            valid=same,
            height=proven.header.height,
            state_root=address_text(proven.header.state_root),
            why="" if same else "the proof holds another value",
        )

    async def _stored(self, height: int) -> StoredBlock:
        stored = await self._driver.store.block(height)
        if stored is None:
            first = self._driver.held[1]
            if 0 < height < first:
                raise Pruned(f"block {height} is not kept here, the first one held is {first}")
            raise NotFound(f"no block {height} here")
        return stored


def _validators(found: ValidatorSet) -> api.Validators:
    return api.Validators(
        epoch=found.epoch,
        validators_hash=address_text(found.digest),
        stake_total=str(found.total),
        quorum=str(found.quorum),
        items=tuple(
            api.ValidatorInfo(
                index=index,
                operator=address_text(validator.operator),
                consensus=address_text(validator.consensus),
                peer_id=validator.peer_id,
                stake=str(validator.stake),
            )
            for index, validator in enumerate(found.validators)
        ),
    )


def decode_header(text: str) -> Header:
    """A header from hex."""
    return _unhex(text, Header)


def _unhex(text: str, shape: type[R]) -> R:
    return decode(bytes.fromhex(text.removeprefix("0x")), shape, size_max=PROOF_BYTES_MAX)


def _block_info(stored: StoredBlock, validators: ValidatorSet) -> api.BlockInfo:
    block, certificate = block_of(stored), certificate_of(stored)
    header = block.header
    receipts = [decode(raw, TxReceipt, size_max=len(raw)) for raw in receipts_of(stored)]
    signers = certificate.signer_indexes()
    return api.BlockInfo(
        height=header.height,
        hash=address_text(stored.block_hash),
        prev_hash=address_text(header.prev_hash),
        view=certificate.view,
        epoch=header.epoch,
        proposer=header.proposer,
        time=utc_text(header.time_ms),
        state_root=address_text(header.state_root),
        tx_root=address_text(header.tx_root),
        size_bytes=len(stored.block),
        evidence=len(block.body.evidence),
        certificate=api.CertificateInfo(
            view=certificate.view,
            digest=address_text(certificate.block_hash),
            signers=signers,
            stake=str(validators.weight(signers)),
            raw="0x" + stored.certificate.hex(),
        ),
        transactions=tuple(
            _transaction_info(
                raw, TxResult(transaction_id(raw), header.height, index, receipts[index])
            )
            for index, raw in enumerate(block.body.transactions)
        ),
        header="0x" + encode(header).hex(),
    )


def _transaction_info(raw: bytes, found: TxResult | None) -> api.TransactionInfo:
    transaction = decode_transaction(raw)
    return api.TransactionInfo(
        tx_id=address_text(transaction_id(raw)),
        kind=_kind_name(transaction),
        sender=address_text(transaction.sender),
        nonce=transaction.nonce,
        fee=str(transaction.fee),
        status="pending" if found is None else "committed",
        height=None if found is None else found.height,
        index=None if found is None else found.index,
        ok=None if found is None else found.receipt.code is Code.DONE,
        why="" if found is None else _why(found.receipt),
        body=_body(transaction),
        raw="0x" + raw.hex(),
    )


def _kind_name(transaction: Transaction) -> str:
    names = {number: cls.__name__ for number, cls in PAYLOADS.items()}
    return names.get(transaction.kind, f"kind {transaction.kind}")


def _body(transaction: Transaction) -> dict[str, object]:
    payload = PAYLOADS.decode(transaction.kind, transaction.payload, size_max=TRANSACTION_BYTES_MAX)
    return readable_record(payload)


def _why(receipt: TxReceipt) -> str:
    return "" if receipt.code is Code.DONE else receipt.code.name.lower()


def _no_transaction(tx_id: str) -> LocalError:
    return NotFound(
        f"transaction {tx_id} is in no block and not on its way from this node",
        hint="ask the node that sent it, or wait for the next block",
    )
