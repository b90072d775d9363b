"""A daemon that is killed -9 leaves neither the worker program nor its children behind."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import trio

import prsm
from prsm.node.worker import golden
from tests.tools import graphs

pytestmark = pytest.mark.slow

_DAEMON = """
import sys
from pathlib import Path
import trio
from prsm.node.inference.pool import Pool
from prsm.protocol.tensors import Dtype, Tensor, TensorHead

async def main(folder: Path, command: list[str]) -> None:
    pool = Pool(jobs_dir=folder / "jobs", memory_bytes_max=2**30, command=command)
    async with trio.open_nursery() as nursery:
        await nursery.start(pool.run)
        async with pool.open(folder / "loop.onnx", golden=folder / "golden.bin") as shard:
            print(pool.pid, shard.pid, flush=True)
            await shard.run([Tensor(TensorHead("n", Dtype.I64, (1,)), b"\\xff" * 7 + b"\\x7f")])

trio.run(main, Path(sys.argv[1]), sys.argv[2:])
"""


def _is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"  # a zombie waits for a parent that does not read


async def test_children_in_mid_run_end_with_their_daemon(tmp_path: Path) -> None:
    """Goal: no orphan computes on. Method: kill -9 the daemon while a child loops for ever."""
    rows = golden.make_inputs(graphs.loop().graph, {})
    (tmp_path / "loop.onnx").write_bytes(graphs.loop().SerializeToString())
    (tmp_path / "golden.bin").write_bytes(golden.save(rows))
    lenient = Path(__file__).parents[2] / "tools" / "lenient_worker.py"
    daemon = await trio.lowlevel.open_process(
        [sys.executable, "-c", _DAEMON, str(tmp_path), sys.executable, str(lenient)],
        stdout=subprocess.PIPE,
        env={"PYTHONPATH": str(Path(prsm.__file__).parents[1]), "PATH": os.defpath},
    )
    assert daemon.stdout is not None
    async with daemon.stdout:
        pids = [int(word) for word in (await daemon.stdout.receive_some()).split()]
        assert len(pids) == 2
        assert all(_is_alive(pid) for pid in pids)
        daemon.kill()
        await daemon.wait()
    with trio.fail_after(5):
        while any(_is_alive(pid) for pid in pids):  # noqa: ASYNC110 - strangers set no event
            await trio.sleep(0.01)
