"""Load on a network under test: transfers at a rate, each followed until it is in a block.

Knows: accounts of its own, a file in which every transfer and its outcome stand. Must not know:
faults. A transfer is written down before it leaves and again when it is acknowledged, so that a
load that was ended takes up what was open, with the same bytes.
"""

import random
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import msgspec
import trio

from prsm.protocol.genesis import Allocation, Genesis
from prsm.protocol.ids import PublicKey
from prsm.protocol.transactions.envelope import transaction_id
from prsm.testnet import books
from prsm.testnet.courier import Courier
from prsm.testnet.histories.record import Outcome, Write
from prsm.testnet.orders import order, signer_of, transfer
from prsm.testnet.watch import Watch

BALANCE: Final = 10**12  # micro-FTNS of each account: no run spends it on fees
BOOK: Final = "load.jsonl"
PULSES: Final = 4  # accounts for measuring, before those of the load
CLOSE_SECONDS: Final = 30.0  # from the end of the load until every open transfer is in a block
AMOUNT_MAX: Final = 1_000


class Entry(msgspec.Struct):
    """One transfer; a later line of the same account and nonce replaces an earlier one."""

    account: int
    nonce: int
    raw: str  # hexadecimal
    sent_ns: int
    done_ns: int = 0
    node: int = -1
    height: int = 0
    index: int = 0
    done: bool = False

    @property
    def is_open(self) -> bool:
        """Is it in no block as far as its sender knows?"""
        return not self.done_ns

    def write(self) -> Write:
        """The same for the judge of histories."""
        raw = bytes.fromhex(self.raw)
        return Write(
            client=self.account,
            tx_id=transaction_id(raw),
            raw=raw,
            invoked_ns=self.sent_ns,
            completed_ns=self.done_ns,
            outcome=Outcome.UNKNOWN if self.is_open else Outcome.OK,
            node=self.node,
            height=self.height,
            index=self.index,
            done=self.done,
        )


def allocations(seed: int, accounts: int) -> list[Allocation]:
    """What the genesis gives the accounts of pulses and load."""
    keys = [signer_of(seed, number).public_key for number in range(PULSES + accounts)]
    return [Allocation(PublicKey(key), BALANCE) for key in keys]


def entries(folder: Path) -> list[Entry]:
    """Every transfer of a folder's load, in order of account and nonce."""
    found: dict[tuple[int, int], Entry] = {}
    for entry in books.read(folder / BOOK, Entry):
        found[entry.account, entry.nonce] = entry
    return [found[key] for key in sorted(found)]


@dataclass(slots=True)
class Load:
    """Transfers among some accounts at a rate, until closed.

    Nobody else is paid: each stranger would be an account more, and a ledger that grows hides
    whether anything else does.

    Attributes:
        shed: how often a transfer was due and every account had one open.
        waited_ms: of each acknowledged transfer, from its first sending.
    """

    folder: Path
    genesis: Genesis
    watches: list[Watch]
    seed: int
    accounts: int
    rate: int
    sent: int = 0
    shed: int = 0
    waited_ms: list[float] = field(default_factory=list)
    is_closed: bool = False
    _payees: list[bytes] = field(init=False)

    def __post_init__(self) -> None:
        numbers = range(PULSES, PULSES + self.accounts)
        self._payees = [signer_of(self.seed, number).public_key for number in numbers]

    async def run(self) -> None:
        """Pay until `close` is called, and then until every transfer's place is known.

        A transfer that is in no block half a minute later is left open in the book.
        """
        known: dict[int, list[Entry]] = {}
        for entry in entries(self.folder):
            known.setdefault(entry.account, []).append(entry)
        due, turns = trio.open_memory_channel[None](0)
        with trio.CancelScope() as grace:
            async with trio.open_nursery() as nursery:
                for account in range(self.accounts):
                    nursery.start_soon(self._pay, account, known.get(account, []), turns.clone())
                turns.close()
                await self._tick(due)
                grace.deadline = trio.current_time() + CLOSE_SECONDS

    def close(self) -> None:
        """Begin no new transfer."""
        self.is_closed = True

    async def _tick(self, due: trio.MemorySendChannel[None]) -> None:
        began, ticks = trio.current_time(), 0
        with due:
            while not self.is_closed:
                ticks += 1
                await trio.sleep_until(began + ticks / max(1, self.rate))
                if not self.rate:
                    continue
                try:
                    due.send_nowait(None)
                except trio.WouldBlock:
                    self.shed += 1

    async def _pay(
        self, account: int, known: list[Entry], turns: trio.MemoryReceiveChannel[None]
    ) -> None:
        signer = signer_of(self.seed, PULSES + account)
        dice = random.Random(f"{self.seed} payer {account} {len(known)}")
        courier = Courier(self.watches, dice)
        nonce = len(known)
        try:
            for entry in known:
                if entry.is_open:
                    await self._bring(entry, courier)
            async for _ in turns:
                payment = transfer(dice.choice(self._payees), dice.randint(1, AMOUNT_MAX))
                raw = order(self.genesis, signer, payment, nonce=nonce)
                entry = Entry(account, nonce, raw.hex(), time.monotonic_ns())
                self._note(entry)
                self.sent += 1
                nonce += 1
                await self._bring(entry, courier)
        finally:
            courier.close()

    async def _bring(self, entry: Entry, courier: Courier) -> None:
        found = await courier.deliver([bytes.fromhex(entry.raw)])
        entry.done_ns = time.monotonic_ns()
        entry.node, entry.height, entry.index = found.node, found.height, found.index
        entry.done = found.done
        self.waited_ms.append((entry.done_ns - entry.sent_ns) / 1e6)
        self._note(entry)

    def _note(self, entry: Entry) -> None:
        books.add(self.folder / BOOK, entry)
