"""The `Chain` port of tests: the ledger's own rules over a mapping, and a task making blocks."""

from dataclasses import dataclass, field
from typing import Final

import trio

from prsm.consensus.ledger.audit_records import Pledged, pledged_key
from prsm.consensus.ledger.audits import Sampling
from prsm.consensus.ledger.beacons import note_block
from prsm.consensus.ledger.context import Context
from prsm.consensus.ledger.errors import Failed
from prsm.consensus.ledger.evaluations import (
    EVALUATION,
    Evaluation,
    draws_of,
    note_draws,
    read_evaluation,
)
from prsm.consensus.ledger.genesis import genesis_changes
from prsm.consensus.ledger.halts import is_halted
from prsm.consensus.ledger.kinds import RULES
from prsm.consensus.ledger.records import (
    Balance,
    Committed,
    Job,
    account_key,
    committed_key,
    job_key,
)
from prsm.consensus.ledger.state import State
from prsm.consensus.ledger.view import View
from prsm.node.inference.interface import TransactionFailed, TxResult
from prsm.protocol.codec import Record, decode, encode
from prsm.protocol.ed25519 import Ed25519Signer, Ed25519Verifier
from prsm.protocol.genesis import Allocation, Genesis, Parameters
from prsm.protocol.ids import Height, Millis, TxId
from prsm.protocol.limits import TRANSACTION_BYTES_MAX
from prsm.protocol.receipts import WorkReceipt
from prsm.protocol.signing import sha256
from prsm.protocol.transactions.payloads import Settle
from prsm.protocol.transactions.results import Code
from prsm.protocol.validators import Validator

FUNDS: Final = 1_000_000_000
VERIFIER: Final = Ed25519Verifier()


def seed(index: int) -> bytes:
    """Seed of node `index`."""
    return bytes([index + 1]) * 32


@dataclass
class World:
    """The ledger all nodes share, and its blocks."""

    size: int = 4
    block_s: float = 0.05
    heartbeat_s: float = 10.0
    bond: int = FUNDS  # pledged by every node
    height: int = 1
    time_ms: int = 1_000_000
    rested_ms: int = 0  # clocks are so far ahead of the last block, as after a night off
    executed: list[tuple[int, Record, TxResult]] = field(default_factory=list)

    def __post_init__(self) -> None:
        signers = [Ed25519Signer(seed(i)) for i in range(self.size)]
        self.genesis = Genesis(
            version=1,
            name="work",
            development=True,
            time_ms=0,
            validators=(
                Validator(operator=b"o" * 32, consensus=b"c" * 32, peer_id="peer", stake=1000),
            ),
            allocations=tuple(Allocation(signer.public_key, FUNDS) for signer in signers),
            parameters=Parameters(),
        )
        self.state: dict[bytes, bytes] = {k: v for k, v in genesis_changes(self.genesis) if v}
        for signer in signers:  # as nodes with a bond in their configuration
            key = pledged_key(signer.public_key)
            self.state[key] = encode(Pledged(amount=self.bond, held=0))
        self._queue: list[tuple[TxId, bytes, int, Record]] = []
        self.results: dict[TxId, TxResult] = {}
        self.changed = trio.Event()
        self.late: set[int] = set()  # kinds no block takes for now
        self._count = 0

    def submit(self, sender: bytes, kind: int, payload: Record) -> TxId:
        self._count += 1
        tx = TxId(sha256(self._count.to_bytes(8, "big")))
        self._queue.append((tx, sender, kind, payload))
        return tx

    def make_block(self) -> None:
        """Execute what was submitted."""
        self.height += 1
        self.time_ms += self.rested_ms
        self.rested_ms = 0
        queue = [each for each in self._queue if each[2] not in self.late]
        self._queue = [each for each in self._queue if each[2] in self.late]
        draws = State(self.state)
        parent = sha256(b"block", self.height.to_bytes(8, "big"))
        note_draws(draws, draws_of(draws, chain_id=self.genesis.chain_id, parent=parent))
        self._write(draws)
        for tx, sender, kind, payload in queue:
            self.results[tx] = result = self._execute(sender, kind, payload)
            self.executed.append((kind, payload, result))
        self._note_block()
        self.changed.set()
        self.changed = trio.Event()

    def _note_block(self) -> None:
        """What a real ledger does after a block's transactions: draws wait for its hash."""
        state = State(self.state)
        note_block(
            state,
            height=self.height,
            name=sha256(bytes([self.height % 256])),
            proposer=bytes([self.height % 2]) * 32,
        )
        self._write(state)

    def _write(self, state: State) -> None:
        for key, value in state.changes():
            if value is None:
                self.state.pop(key, None)
            else:
                self.state[key] = value

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        task_status.started()
        quiet = 0.0
        while True:
            await trio.sleep(self.block_s)
            quiet += self.block_s
            self.time_ms += int(self.block_s * 1000)
            if self._queue or quiet >= self.heartbeat_s:
                self.make_block()
                quiet = 0.0

    def balance(self, account: bytes) -> int:
        found = State(self.state).read(account_key(account, 0), Balance)
        return found.amount if found else 0

    def _execute(self, sender: bytes, kind: int, payload: Record) -> TxResult:
        state = State(self.state)
        context = Context(
            sender=sender,
            height=Height(self.height),
            time_ms=Millis(self.time_ms),
            chain_id=self.genesis.chain_id,
            parameters=self.genesis.parameters,
            validators=self.genesis.first_validators(),
            verifier=VERIFIER,
        )
        try:
            RULES[kind](state, payload, context)
        except Failed as failed:
            return TxResult(self.height, ok=False, code=failed.code.name)
        self._write(state)
        return TxResult(self.height, ok=True, code=Code.DONE.name)


class MemoryChain:
    """The `Chain` port over a shared world."""

    def __init__(self, world: World, index: int) -> None:
        self.world = world
        self.signer = Ed25519Signer(seed(index))
        self.chain_id = world.genesis.chain_id
        self.address = bytes(self.signer.public_key)
        self.mutes: set[int] = set()  # kinds this node never sends
        self.lag = 0  # blocks by which this node's ledger trails what workers have seen

    def height(self) -> int:
        return self.world.height

    def block_time_ms(self) -> int:
        return self.world.time_ms

    def deadline_ms(self, after_ms: int) -> int:
        most_ms = self.world.genesis.parameters.escrow_ms_max
        return self.world.time_ms + self.world.rested_ms + min(after_ms, most_ms)

    async def wait_height(self, height: int) -> None:
        await trio.lowlevel.checkpoint()
        while self.world.height < height:
            await self.world.changed.wait()

    def job(self, job: bytes) -> Job | None:
        return State(self.world.state).read(job_key(job), Job)

    def bound(self) -> tuple[tuple[bytes, int], ...]:
        found = View(self.world.state).bound()
        return tuple(key for key in found if self.committed(*key, self.address) is not None)

    def settle_grace_ms(self) -> int:
        return self.world.genesis.parameters.settle_grace_ms

    def bonded_for(self, worker: bytes) -> int:
        found = View(self.world.state).pledge(worker)
        return (found.amount - found.held) // self.world.genesis.parameters.audit_bond_multiple

    def committed(self, job: bytes, unit: int, worker: bytes) -> Committed | None:
        found = State(self.world.state).read(committed_key(job, unit, worker), Committed)
        is_here = found is not None and found.height + self.lag <= self.world.height
        return found if is_here else None

    def sampling(self, job: bytes, unit: int) -> Sampling | None:
        return View(self.world.state).sampling(job, unit)

    def may_settle(self, job: bytes, unit: int) -> bool:
        view, now = View(self.world.state), self.world.time_ms
        return view.may_settle(job, unit, sender=self.address, time_ms=now)

    def bond_of(self, job: Job, unit: int) -> int:
        due = self.world.genesis.parameters.audit_bond_multiple * job.reserve(unit)
        return due if job.is_sampled(unit) else 0

    def free_pledge(self) -> int:
        pledge = View(self.world.state).pledge(self.address)
        return pledge.amount - pledge.held

    def evaluation(self, job: bytes) -> Evaluation | None:
        return read_evaluation(State(self.world.state), job)

    def evaluations(self) -> tuple[bytes, ...]:
        jobs = [key[1:] for key in sorted(self.world.state) if key[:1] == EVALUATION]
        found = [each for job in jobs if (each := self.evaluation(job)) is not None]
        return tuple(each.job for each in found if each.requester == self.address)

    def is_halted(self, cid: bytes) -> bool:
        return is_halted(State(self.world.state), cid)

    async def submit(self, kind: int, payload: Record) -> TxId:
        await trio.lowlevel.checkpoint()
        if kind in self.mutes:
            return TxId(bytes(32))
        if isinstance(payload, Settle):  # the wallet rehearses against its own ledger
            for raw in payload.receipts:
                receipt = decode(raw, WorkReceipt, size_max=TRANSACTION_BYTES_MAX)
                found = self.committed(receipt.job, receipt.unit, receipt.worker)
                if found is None or found.receipt_hash != sha256(raw):
                    raise TransactionFailed("not committed on this ledger")
        return self.world.submit(self.address, kind, payload)

    async def wait_committed(self, tx: TxId) -> TxResult:
        await trio.lowlevel.checkpoint()
        while tx not in self.world.results:
            await self.world.changed.wait()
        return self.world.results[tx]
