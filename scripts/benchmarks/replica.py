"""Measure a replica that has both cores: recorded blocks through its checks to the disk.

Blocks of signed transfers are made beforehand, certified by the keys of four validators, as peers
would send them. Then, in turn for each block: its certificate is checked, its transactions are
decoded and their signatures checked in two threads while the block before it is executed, and it
is made durable with its state changes in one SQLite transaction. No agreement and no network.
"""

import tempfile
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Final

import trio
from benchmarks.ledger import TRANSACTION_BYTES, VERIFY, stored

from prsm.consensus.ledger.admission import Checked
from prsm.consensus.ledger.apply import Ledger
from prsm.consensus.ledger.genesis import genesis_changes
from prsm.node.chain.admission import Seen
from prsm.protocol.certificates import check_certificate
from prsm.protocol.ed25519 import Ed25519Verifier
from prsm.protocol.genesis import Genesis, Parameters
from prsm.protocol.signing import Kind
from prsm.storage.ledger import LedgerStore
from prsm.testnet.bench.orders import FIRST_ACCOUNT, FUNDS, Payers
from prsm.testnet.chain import Chain, Made, small_genesis

ACCOUNTS: Final = 10_000
BLOCK: Final = 1_000
BLOCKS: Final = 24
THREADS: Final = 2
Row = tuple[str, float, str]

RATE: Final = "one replica: transfers executed and durable (bar 20,000)"
CPU: Final = "one replica: CPU a transfer"
CHECKS: Final = "Ed25519: checks a second in two threads"
LIMITS: Final = {RATE: CHECKS, CPU: VERIFY}


def measure_all() -> list[Row]:
    """Record blocks, then feed them to a fresh replica."""
    genesis = make_genesis()
    made = record(genesis, BLOCKS)
    with tempfile.TemporaryDirectory(prefix="prsm-bench-") as folder:
        return trio.run(_measure, Path(folder), genesis, made)


def measure_checks() -> float:
    """Signatures a second that two threads check, which do nothing else."""
    genesis = make_genesis()
    return trio.run(_checks_a_second, record(genesis, 1)[0], genesis)


def make_genesis() -> Genesis:
    """A network whose accounts can pay."""
    balances = dict.fromkeys(range(FIRST_ACCOUNT, FIRST_ACCOUNT + ACCOUNTS), FUNDS)
    return small_genesis(balances=balances, parameters=Parameters())


def record(genesis: Genesis, blocks: int) -> list[Made]:
    """Certified blocks of transfers, as four validators would have them."""
    payers = Payers(
        genesis.chain_id,
        count=ACCOUNTS,
        size_bytes=TRANSACTION_BYTES,
        valid_until_ms=genesis.time_ms + 3_600_000,
    )
    chain = Chain(genesis)
    for _ in range(blocks):
        chain.add(*payers.sign(BLOCK))
    return chain.made


async def _measure(folder: Path, genesis: Genesis, made: Sequence[Made]) -> list[Row]:
    verifier, seen = Ed25519Verifier(), Seen()
    ledger = Ledger(genesis, {}, verifier=verifier, tip=None, known=seen, recall=seen.recall)
    one_s = _one_check_seconds(ledger, made[0])
    alone = await _checks_a_second(made[0], genesis)
    store = await LedgerStore.open(folder / "ledger.db")
    try:
        await store.put_state(genesis_changes(genesis))
        began, cpu = time.perf_counter(), time.process_time()
        await _feed(ledger, store, seen, made)
        seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    finally:
        await store.close()  # noqa: ASYNC102 - close() shields itself
    assert ledger.height == BLOCKS
    count = BLOCK * BLOCKS
    return [
        (VERIFY, 1e6 * one_s, "us"),
        (CHECKS, alone, "1/s"),
        (RATE, count / seconds, "tx/s"),
        (CPU, 1e6 * cpu / count, "us"),
    ]


async def _feed(ledger: Ledger, store: LedgerStore, seen: Seen, made: Sequence[Made]) -> None:
    await _check(ledger, seen, made[0])
    for i, item in enumerate(made):
        async with trio.open_nursery() as nursery:
            if i + 1 < len(made):
                nursery.start_soon(_check, ledger, seen, made[i + 1])
            await _execute(ledger, store, item)


async def _check(ledger: Ledger, seen: Seen, item: Made) -> None:
    """Decode and check all transactions of a block in threads."""
    raws = item.block.body.transactions
    async with trio.open_nursery() as nursery:
        for start in range(THREADS):
            part = raws[start::THREADS]
            nursery.start_soon(trio.to_thread.run_sync, partial(_check_all, ledger, seen, part))


def _check_all(ledger: Ledger, seen: Seen, raws: Sequence[bytes]) -> list[Checked]:
    checked = [ledger.admission.check(raw) for raw in raws]
    for each in checked:
        seen.keep(each)
    return checked


async def _execute(ledger: Ledger, store: LedgerStore, item: Made) -> None:
    header = item.block.header
    check_certificate(
        item.certificate,
        ledger.validators(header.height),
        chain_id=header.chain_id,
        verifier=Ed25519Verifier(),
        kind=Kind.COMMIT,
    )
    outcome = await trio.to_thread.run_sync(ledger.apply, item.block)
    await store.commit(stored(item), changes=outcome.changes, tx_ids=outcome.tx_ids)
    ledger.commit(outcome)


def _one_check_seconds(ledger: Ledger, item: Made) -> float:
    raws = item.block.body.transactions[:200]
    began = time.process_time()
    for raw in raws:
        ledger.admission.check(raw)
    return (time.process_time() - began) / len(raws)


async def _checks_a_second(item: Made, genesis: Genesis) -> float:
    """Of both threads together, with nothing else to do."""
    seen, verifier = Seen(), Ed25519Verifier()
    ledger = Ledger(genesis, {}, verifier=verifier, tip=None, known=seen, recall=seen.recall)
    began = time.perf_counter()
    await _check(ledger, seen, item)
    return len(item.block.body.transactions) / (time.perf_counter() - began)
