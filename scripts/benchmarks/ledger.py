"""Measure the ledger in one process: what 500 signed transfers a block cost, beside their limits.

The limit of computing is one Ed25519 check, that of a durable block is SQLite's commit of one row
with `synchronous=FULL` on the same disk. No agreement and no network here: see `four_nodes`.
"""

import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

import trio

from prsm.consensus.ledger.apply import Ledger
from prsm.consensus.ledger.genesis import genesis_changes
from prsm.consensus.ledger.outcome import Outcome
from prsm.consensus.ledger.tree import Tree
from prsm.node.chain.admission import Seen
from prsm.protocol.codec import encode
from prsm.protocol.ed25519 import Ed25519Signer, Ed25519Verifier
from prsm.protocol.genesis import Genesis, Parameters
from prsm.protocol.headers import Block
from prsm.protocol.ids import FTNS
from prsm.protocol.limits import BLOCK_BODY_BYTES_MAX
from prsm.protocol.transactions.envelope import (
    Transaction,
    decode_transaction,
    is_signed,
    sign_transaction,
)
from prsm.protocol.transactions.payloads import TRANSFER, Transfer
from prsm.storage.ledger import LedgerStore, StoredBlock
from prsm.testnet.chain import Chain, Made, signer_of, small_genesis

ACCOUNTS: Final = 1_000
FIRST_ACCOUNT: Final = 64  # key numbers below are validators'
BLOCK: Final = 500
BLOCKS: Final = 8
TRANSACTION_BYTES: Final = 200
FEE: Final = 10_000
MICRO: Final = 1_000_000
COMMITS: Final = 40
Row = tuple[str, float, str]

VERIFY: Final = "Ed25519: one check of 200 B"
ONE_ROW: Final = "SQLite FULL: commit of one row"
ADMIT: Final = "check of a transaction at the door"
JUDGE: Final = "judge and apply, checked before"
BARE: Final = "all of it without the state root (bar 1.6)"
ROOTED: Final = "all of it with the state root (bar 2.0)"
SELECT: Final = "proposer: choosing transactions"
STORED_CPU: Final = "SQLite FULL: block of 500, CPU a tx"
STORED: Final = "SQLite FULL: commit of a block of 500"
LIMITS: Final = {
    **dict.fromkeys((ADMIT, JUDGE, BARE, ROOTED, SELECT, STORED_CPU), VERIFY),
    STORED: ONE_ROW,
}


@dataclass(frozen=True, slots=True)
class Purse:
    """Signs transfers of one account, nonce after nonce."""

    chain_id: bytes
    key: Ed25519Signer
    valid_until_ms: int

    def pay(self, to: bytes, nonce: int) -> bytes:
        """A signed transfer of exactly `TRANSACTION_BYTES`."""
        short = self._make(to, nonce, b"")
        return self._make(to, nonce, bytes(TRANSACTION_BYTES - len(short)))

    def _make(self, to: bytes, nonce: int, memo: bytes) -> bytes:
        transaction = Transaction(
            version=1,
            chain_id=self.chain_id,
            kind=TRANSFER,
            sender=self.key.public_key,
            nonce=nonce,
            fee=FEE,
            payload=encode(Transfer(asset=FTNS, to=to, amount=1, memo=memo)),
            valid_until_ms=self.valid_until_ms,
            signature=bytes(64),
        )
        return encode(sign_transaction(transaction, self.key))


@dataclass(slots=True)
class Spent:
    """CPU microseconds a transaction, one entry a block."""

    verify: list[float] = field(default_factory=list)
    admit: list[float] = field(default_factory=list)
    judge: list[float] = field(default_factory=list)
    commit: list[float] = field(default_factory=list)
    tree: list[float] = field(default_factory=list)
    select: list[float] = field(default_factory=list)


def measure_all() -> list[Row]:
    """Everything that needs no other process."""
    genesis = small_genesis(
        balances=dict.fromkeys(range(FIRST_ACCOUNT, FIRST_ACCOUNT + ACCOUNTS), 1_000 * MICRO),
        parameters=Parameters(),
    )
    blocks = transfers(genesis)
    made, spent = measure_blocks(genesis, blocks)
    middle = statistics.median
    bare = [a + j + c - t for a, j, c, t in _columns(spent)]
    rooted = [a + j + c for a, j, c, _ in _columns(spent)]
    rows: list[Row] = [
        (VERIFY, middle(spent.verify), "us"),
        (ADMIT, middle(spent.admit), "us"),
        (JUDGE, middle(spent.judge), "us"),
        ("state tree of 2^14 buckets", middle(spent.tree), "us"),
        (BARE, middle(bare), "us"),
        (ROOTED, middle(rooted), "us"),
        (SELECT, middle(spent.select), "us"),
    ]
    with tempfile.TemporaryDirectory(prefix="prsm-bench-") as folder:
        rows.append(("fdatasync of 4 KiB appended", measure_sync(Path(folder) / "log"), "ms"))
        rows += trio.run(measure_store, Path(folder), genesis, made)
    return rows


def transfers(genesis: Genesis) -> list[list[bytes]]:
    """`BLOCKS` times `BLOCK` signed transfers; senders take turns."""
    keys = [signer_of(FIRST_ACCOUNT + i) for i in range(ACCOUNTS)]
    until = genesis.time_ms + 3_600_000
    purses = [Purse(genesis.chain_id, key, until) for key in keys]
    orders = [
        purses[i % ACCOUNTS].pay(keys[(i + 1) % ACCOUNTS].public_key, i // ACCOUNTS)
        for i in range(BLOCK * BLOCKS)
    ]
    assert {len(raw) for raw in orders} == {TRANSACTION_BYTES}
    return [orders[i : i + BLOCK] for i in range(0, len(orders), BLOCK)]


def measure_blocks(genesis: Genesis, blocks: Sequence[Sequence[bytes]]) -> tuple[list[Made], Spent]:
    """Agreed-on blocks through the ledger, as every node does it; proposing is the proposer's."""
    seen = Seen()
    verifier = Ed25519Verifier()
    ledger = Ledger(genesis, {}, verifier=verifier, tip=None, known=seen, recall=seen.recall)
    chain = Chain(genesis, ledger)
    changes = [(key, value) for key, value in genesis_changes(genesis) if value is not None]
    shadow = Tree(genesis.parameters.tree_bits, changes)
    spent = Spent()
    for raws in blocks:
        decoded = [decode_transaction(raw) for raw in raws]
        # In turn with the work it is the limit of: neighbours disturb both alike.
        spent.verify.append(_cpu_us(partial(_verify_all, verifier, decoded)))
        spent.admit.append(_cpu_us(partial(_check_all, ledger, seen, raws)))
        spent.select.append(_cpu_us(partial(_select, ledger, raws)))
        block = chain.propose(*raws)
        outcome, judged = _judge(ledger, block)
        spent.judge.append(judged)
        spent.commit.append(_cpu_us(partial(_commit, ledger, outcome)))
        spent.tree.append(_cpu_us(partial(_update, shadow, outcome)))
        assert shadow.root == ledger.state_root
        chain.made.append(Made(block, chain.certify(block.header), outcome))
    assert all(len(made.outcome.tx_ids) == BLOCK for made in chain.made)
    return chain.made, spent


def _verify_all(verifier: Ed25519Verifier, items: Sequence[Transaction]) -> None:
    assert all(is_signed(item, verifier) for item in items)


def _commit(ledger: Ledger, outcome: Outcome) -> None:
    for _ in ledger.commit(outcome):
        pass


def _update(tree: Tree, outcome: Outcome) -> None:
    tree.update(outcome.changes)
    for _ in tree.settling():
        pass


def _check_all(ledger: Ledger, seen: Seen, raws: Sequence[bytes]) -> None:
    for raw in raws:
        seen.keep(ledger.admission.check(raw))


def _select(ledger: Ledger, raws: Sequence[bytes]) -> None:
    time_ms = ledger.tip.time_ms + 1_000
    ledger.select(raws, time_ms=time_ms, bytes_max=BLOCK_BODY_BYTES_MAX, count_max=BLOCK)


def _judge(ledger: Ledger, block: Block) -> tuple[Outcome, float]:
    began = time.process_time()
    fault = ledger.judge(block, wall_ms=None)
    assert fault is None, fault
    outcome = ledger.apply(block)
    return outcome, (time.process_time() - began) * 1e6 / BLOCK


def measure_sync(path: Path) -> float:
    """Milliseconds to append 4 KiB and make them durable; p50."""
    times = []
    with path.open("wb", buffering=0) as file:
        for _ in range(COMMITS):
            began = time.perf_counter()
            file.write(bytes(4096))
            os.fdatasync(file.fileno())
            times.append(time.perf_counter() - began)
    return 1000 * statistics.median(times)


async def measure_one_row(store: LedgerStore) -> float:
    """Milliseconds to make one row durable; p50."""
    times = []
    for i in range(COMMITS):
        began = time.perf_counter()
        await store.put_meta("bench", i.to_bytes(8, "big"))
        times.append(time.perf_counter() - began)
    return 1000 * statistics.median(times)


async def measure_store(folder: Path, genesis: Genesis, made: Sequence[Made]) -> list[Row]:
    """The same blocks into the ledger file, each in one durable transaction."""
    store = await LedgerStore.open(folder / "ledger.db")
    try:
        await store.put_state(genesis_changes(genesis))
        single = await measure_one_row(store)
        wall, cpu = [], []
        for item in made:
            row, outcome = stored(item), item.outcome
            began, spent = time.perf_counter(), time.process_time()
            await store.commit(row, changes=outcome.changes, tx_ids=outcome.tx_ids)
            wall.append(1000 * (time.perf_counter() - began))
            cpu.append((time.process_time() - spent) * 1e6 / BLOCK)
        began = time.perf_counter()
        await store.checkpoint()
        checkpoint = 1000 * (time.perf_counter() - began)
    finally:
        await store.close()  # noqa: ASYNC102 - close() shields itself
    return [
        (ONE_ROW, single, "ms"),
        (STORED, statistics.median(wall), "ms"),
        (STORED_CPU, statistics.median(cpu), "us"),
        (f"SQLite: checkpoint after {len(made)} blocks", checkpoint, "ms"),
    ]


def stored(made: Made) -> StoredBlock:
    """A block as the ledger file holds it."""
    return StoredBlock(
        height=made.block.header.height,
        block_hash=made.outcome.tip.block_hash,
        block=encode(made.block),
        certificate=encode(made.certificate),
        receipts=encode(made.outcome.receipts),
    )


def _columns(spent: Spent) -> list[tuple[float, float, float, float]]:
    return list(zip(spent.admit, spent.judge, spent.commit, spent.tree, strict=True))


def _cpu_us(work: Callable[[], object], count: int = BLOCK) -> float:
    """CPU microseconds of each of `count` pieces of work."""
    began = time.process_time()
    work()
    return (time.process_time() - began) * 1e6 / count
