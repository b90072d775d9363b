"""What is seen of a process: of this one, of one that is gone, of counters written by hand."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from prsm.node.home import Home
from prsm.testnet.processes import Node
from prsm.testnet.soak import samples
from prsm.testnet.soak.samples import counters_of, disk_bytes, lag_of, rss_bytes, take

TEXT = """# HELP prsm_loop_tasks Tasks.
# TYPE prsm_loop_tasks gauge
prsm_loop_tasks 41.0
prsm_loop_lag_seconds_bucket{le="0.01"} 7.0
prsm_loop_lag_seconds_bucket{le="0.001"} 2.0
prsm_loop_lag_seconds_bucket{le="+Inf"} 9.0
prsm_loop_lag_seconds_count 9.0
prsm_tx_total{result="done",type="transfer"} 3.0
"""


def test_counters_are_read_by_series() -> None:
    """Comments are none; bounds of the lag ascend, and the last one takes in all."""
    found = counters_of(TEXT)
    assert found["prsm_loop_tasks"] == 41
    assert found['prsm_tx_total{result="done",type="transfer"}'] == 3
    assert lag_of(found) == ((0.001, 2), (0.01, 7), (60.0, 9))
    assert lag_of({}) == ()


def test_process_that_answers_nobody_is_seen_by_the_kernel(tmp_path: Path) -> None:
    """Memory, children and disk of one that is no daemon; then it is gone."""
    home = Home(tmp_path)
    (tmp_path / "file").write_bytes(bytes(8192))
    script = (
        "import os, sys, time; os.fork(); sys.stdout.write('x'); sys.stdout.flush(); time.sleep(60)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, start_new_session=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.read(2) == b"xx"
        found = take(0, Node("one", home, pid=process.pid), at_s=1.5)
        os.killpg(process.pid, 9)
    assert found is not None
    assert found.pid == process.pid
    assert found.rss_bytes > 1_000_000
    assert [child.rss_bytes > 100_000 for child in found.children] == [True]
    assert found.threads == 1
    assert (found.tasks, found.height, found.lag) == (-1, -1, ())
    assert found.disk_bytes >= 8192
    assert take(0, Node("one", home, pid=process.pid), at_s=2.5) is None


def test_sizes_of_this_process_and_of_no_folder(tmp_path: Path) -> None:
    """What is not there takes nothing, or says so."""
    assert rss_bytes(os.getpid()) > 10_000_000
    assert disk_bytes(tmp_path / "nothing") == 0
    with pytest.raises(OSError, match="No such"):
        rss_bytes(2**22 + 1)
    assert samples.read(tmp_path) == []
