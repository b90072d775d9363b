"""Audit log and outlays of tokens under SIGKILL: what was acknowledged is there, and whole."""

import random
import signal
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest
import trio

from prsm.node.callers.audit import AuditLog, check_files
from prsm.node.clock import TrioClock
from prsm.storage.outlays import Limits, Outlays
from prsm.storage.tenancy import open_database

ROUNDS: Final = 20
# Writes a line and reserves one micro-FTNS, says so, and goes on until it is killed.
WRITER: Final = """
import sys, trio
from pathlib import Path
from prsm.node.callers.audit import AuditLog, Note
from prsm.node.clock import TrioClock
from prsm.storage.outlays import Limits, Outlays
from prsm.storage.tenancy import open_database

async def main():
    folder = Path(sys.argv[1])
    audit = await AuditLog.open(folder, TrioClock())
    outlays = Outlays(await open_database(folder / "tenancy.db"))
    while True:
        entry = await audit.write(Note("call", "cookie", subject="node_stop"), {"params": "{}"})
        await outlays.reserve("t", "wallet_transfer", 1, limits=Limits(10**6), now_ms=1)
        print(entry.seq, flush=True)

trio.run(main)
"""


@pytest.mark.long
def test_what_was_acknowledged_survives_every_kill(tmp_path: Path) -> None:
    """Killed after a random number of lines, twenty times: no gap, no torn line, nothing lost."""
    dice = random.Random(7)
    acknowledged = 0
    for _ in range(ROUNDS):
        command = [sys.executable, "-c", WRITER, str(tmp_path)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
            assert child.stdout is not None
            for _ in range(dice.randint(1, 40)):
                acknowledged = int(child.stdout.readline())
            child.send_signal(signal.SIGKILL)
            for line in child.stdout:  # what it had said before the signal came
                if line.endswith("\n"):
                    acknowledged = int(line)
        trio.run(_check, tmp_path, acknowledged)


async def _check(folder: Path, acknowledged: int) -> None:
    audit = await AuditLog.open(folder, TrioClock())
    verdict = await trio.to_thread.run_sync(check_files, folder)
    assert verdict.broken_at == 0, verdict.why
    # A kill between write and word leaves one line more; a repair writes one of its own.
    assert audit.root.seq >= acknowledged
    database = await open_database(folder / "tenancy.db")
    try:
        sums = await Outlays(database).sums("t", now_ms=1)
    finally:
        await database.close()  # noqa: ASYNC102 - close() shields itself
    repaired = await audit.newest(1_000_000)
    calls = sum(entry.event == "call" for entry in repaired)
    assert sums.left(Limits(10**6)) == 10**6 - sums.spent
    # Each reservation comes after its line; a kill is between the two at most once a round.
    assert 0 <= calls - sums.spent <= ROUNDS
