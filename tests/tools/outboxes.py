"""An outbox with a real wallet and a real ledger; a test says who answers and when blocks come."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import trio
from typing_extensions import override

from prsm.node.chain.admission import Admission
from prsm.node.chain.driver import Driver, Head
from prsm.node.chain.outbox import Outbox
from prsm.node.chain.wallet import TxResult, Wallet
from prsm.protocol.codec import Record, encode
from prsm.protocol.ids import TxId
from prsm.protocol.messages.models import Name
from prsm.protocol.signing import sha256
from prsm.protocol.transactions.envelope import Transaction, decode_transaction
from prsm.protocol.transactions.payloads import RegisterModel
from prsm.protocol.transactions.results import Code
from prsm.storage.cid import hash_block
from prsm.storage.keystore import Cost, KeyFile, save_key
from prsm.testnet.chain import Chain, signer_of, small_genesis
from tests.tools.clocks import SetClock

OWNER = 64
PASSWORD = "correct horse"


class Killed(BaseException):
    """The process ends here."""


def release(semver: str, name: Name = "minilm") -> RegisterModel:
    return RegisterModel(
        manifest=hash_block(f"{name}{semver}".encode()).raw,
        name=name,
        semver=semver,
        pinned_sha256=bytes(32),
        total_bytes=1,
        parents=(),
    )


class LedgerWallet(Wallet):
    """Finds transactions in the blocks of the test's ledger."""

    world: "World"

    @override
    async def find(self, tx_id: TxId) -> TxResult | None:
        await trio.lowlevel.checkpoint()
        for made in self.world.chain.made[self.world.pruned :]:
            for index, receipt in enumerate(made.receipts()):
                if receipt.tx == tx_id:
                    return TxResult(tx_id, made.block.header.height, index, receipt)
        return None


@dataclass
class World:
    """What outlives a node: the ledger, transactions on their way, the folder.

    Attributes:
        is_online: does a validator answer?
        is_quorum: do blocks come?
        pruned: how many of the first blocks the node does not have.
        step: told each step of the node by name; may raise `Killed`.
    """

    folder: Path
    chain: Chain = field(default_factory=lambda: Chain(small_genesis()))
    clock: SetClock = field(default_factory=SetClock)
    is_online: bool = True
    is_quorum: bool = True
    pruned: int = 0
    pool: list[bytes] = field(default_factory=list)
    step: Callable[[str], None] = lambda _name: None
    arrived: trio.Event = field(default_factory=trio.Event)

    def __post_init__(self) -> None:
        key_file = KeyFile("wallet", signer_of(OWNER).public_key, Cost.DEVELOPMENT)
        seed = sha256(b"prsm test key", OWNER.to_bytes(4, "big"))
        save_key(self.folder / "wallet.key", seed, password=PASSWORD, key_file=key_file)
        for semver in ("1.0.0", "2.0.0"):
            self.chain.send(OWNER, release(semver))
        self.clock.now_ms = self.chain.ledger.tip.time_ms

    def admit_own(self, raw: bytes) -> SimpleNamespace:
        """The door of the node's own transactions."""
        self.step("before send")
        if raw not in self.pool:
            self.pool.append(raw)
        self.step("after send")
        self.arrived.set()
        return SimpleNamespace(transaction=decode_transaction(raw))

    def next_block(self, *, later_ms: int = 1_000) -> None:
        """What waits and may stand in a block does so, one after the other."""
        ledger, taken = self.chain.ledger, list[bytes]()
        nonce = ledger.view.nonce(signer_of(OWNER).public_key)
        for raw in sorted(self.pool, key=lambda one: decode_transaction(one).nonce):
            found = decode_transaction(raw)
            if found.nonce == nonce and found.valid_until_ms >= ledger.tip.time_ms + later_ms:
                taken.append(raw)
                nonce += 1
        self.chain.add(*taken, step_ms=later_ms)
        self.clock.now_ms = max(self.clock.now_ms, ledger.tip.time_ms)
        self.pool = [raw for raw in self.pool if decode_transaction(raw).nonce >= nonce]

    def done(self, payload: Record) -> int:
        """How often the ledger has done what the node's key ordered."""
        return sum(
            receipt.code is Code.DONE and _is_ours(decode_transaction(raw), payload)
            for made in self.chain.made
            for raw, receipt in zip(made.block.body.transactions, made.receipts(), strict=True)
        )

    def wallet(self) -> LedgerWallet:
        """The key as a node has it after a start: nothing is on its way."""
        driver = SimpleNamespace(
            ledger=self.chain.ledger,
            clock=self.clock,
            on_head=[],
            validators=SimpleNamespace(validators=()),
            store=SimpleNamespace(first_height=self._first_height),
        )
        made = LedgerWallet(
            self.folder / "wallet.key",
            genesis=self.chain.genesis,
            driver=cast("Driver", driver),
            admission=cast("Admission", self),
        )
        made.world = self
        return made

    async def _first_height(self) -> int:
        await trio.lowlevel.checkpoint()
        return self.pruned + 1

    @asynccontextmanager
    async def node(self) -> AsyncIterator[Outbox]:
        """A run of the node, with blocks as transactions arrive."""
        wallet = self.wallet()
        wallet._signer = signer_of(OWNER)

        def linked() -> tuple[int, int]:
            return 3 * self.is_online, 4

        outbox = Outbox(self.folder / "outbox.db", lambda _name: wallet, self.clock, linked)
        async with trio.open_nursery() as nursery:
            await nursery.start(outbox.run)
            await nursery.start(wallet.run)
            nursery.start_soon(self._make_blocks, wallet)
            yield outbox
            nursery.cancel_scope.cancel()

    async def _make_blocks(self, wallet: Wallet) -> None:
        while True:
            await self.arrived.wait()
            self.arrived = trio.Event()
            if self.is_quorum:
                self.next_block()
                made = self.chain.made[-1]
                head = SimpleNamespace(block=made.block, outcome=made.outcome)
                self.step("block")
                wallet._hear_head(cast("Head", head))


def _is_ours(found: Transaction, payload: Record) -> bool:
    return found.payload == encode(payload)


async def emptied(outbox: Outbox) -> None:
    with trio.fail_after(10):
        while outbox.intents():  # noqa: ASYNC110 - the box tells nobody
            await trio.sleep(0.002)
