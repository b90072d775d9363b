"""A validator whose ledger is damaged: put aside, fetched anew, nothing signed meanwhile."""

from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import trio

from prsm.protocol.transactions.payloads import TRANSFER
from tests.tools.labs import MICRO, make_cluster, transfer


def _overwrite(path: Path) -> None:
    """A disk that gives other bytes than were written, in the middle of the file."""
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 3 : len(raw) // 2] = bytes(len(raw) // 2 - len(raw) // 3)
    path.write_bytes(raw)


def _no_header(path: Path) -> None:
    path.write_bytes(b"\xff" * path.stat().st_size)


@pytest.mark.slow
@pytest.mark.parametrize("damage", [_overwrite, _no_header])
async def test_damaged_ledger_is_put_aside_and_fetched_anew(
    tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    """It follows to the others' state as an observer, and at the next start it votes again."""
    cluster = make_cluster(tmp_path)
    ledger = cluster.labs[3].folder / "ledger.db"
    with trio.fail_after(60):
        async with AsyncExitStack() as stack:
            nodes = [await stack.enter_async_context(cluster.node(i)) for i in range(3)]

            async def pay(count: int) -> int:
                height = 0
                for _ in range(count):
                    tx = await nodes[0].wallet.submit(TRANSFER, transfer(cluster.labs[1], MICRO))
                    height = (await nodes[0].wallet.wait_committed(tx)).height
                return height

            async with cluster.node(3) as fourth:
                await fourth.driver.wait_height(await pay(3))
            await trio.to_thread.run_sync(damage, ledger)
            async with cluster.node(3) as fourth:
                assert "the ledger was damaged" in fourth.driver.stopped
                paid = await pay(2)
                await fourth.driver.wait_height(paid)
                other = nodes[0].driver
                while fourth.driver.ledger.height != other.ledger.height:
                    await fourth.driver.wait_height(other.ledger.height)
                    await other.wait_height(fourth.driver.ledger.height)
                assert fourth.driver.ledger.state_root == other.ledger.state_root
            assert (ledger.with_name("ledger.db.quarantine")).exists()
            async with cluster.node(3) as fourth:
                assert not fourth.driver.stopped
                await fourth.driver.wait_height(await pay(1))
