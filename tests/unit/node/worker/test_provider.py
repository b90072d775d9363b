"""Who computes: named by configuration, offered by the runtime, part of the class."""

import re
import sys
from pathlib import Path

import onnxruntime as ort
import pytest
import trio

from prsm.node.inference.interface import JobFacts
from prsm.node.inference.pool import Pool
from prsm.node.inference.strict import SandboxPolicy
from prsm.node.worker import __main__ as program
from prsm.node.worker import session
from prsm.node.worker.provider import CPU, choose
from prsm.protocol.errors import Unsupported
from prsm.protocol.receipts import WorkKind
from tests.tools import graphs

_DEVICE = Path(__file__).parents[3] / "tools" / "device_worker.py"


def test_cpu_is_always_there_and_its_line_names_the_build() -> None:
    assert choose("cpu") == CPU
    assert not CPU.has_device
    assert re.fullmatch(re.escape(session.OPTIONS) + r"; build=\w+", CPU.options)


def test_provider_that_the_build_does_not_offer_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ort, "get_available_providers", lambda: ["CPUExecutionProvider"])
    for name in ("cuda", "tpu"):
        with pytest.raises(Unsupported, match=f"offers cpu, not '{name}'") as caught:
            choose(name)
        assert 'executor.provider = "cpu"' in caught.value.hint


def test_offered_device_is_another_class_and_has_no_seal(monkeypatch: pytest.MonkeyPatch) -> None:
    offered = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(ort, "get_available_providers", lambda: offered)
    cuda = choose("cuda")
    assert cuda.has_device
    assert cuda.options.startswith("cuda; disable_all; ")
    assert "; tf32=0; build=" in cuda.options


def test_program_leaves_with_the_reason(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(ort, "get_available_providers", lambda: ["CPUExecutionProvider"])
    assert program.main(["--provider=cuda", "--control", "3"]) == 2
    assert "offers cpu, not 'cuda'" in capsys.readouterr().err
    assert program.main(["--provider=cpu"]) == 2


def _refusal(pool: Pool) -> str:
    facts = JobFacts(bytes(32), bytes(32), bytes(32), WorkKind.INFER, b"", 1)
    return SandboxPolicy(lambda: pool.layers).before(facts)


@pytest.mark.slow
async def test_node_with_a_device_says_that_layers_are_missing(tmp_path: Path) -> None:
    """Goal: unsealed sessions are told of. Method: a worker that claims a device, real children."""
    (tmp_path / "raw.onnx").write_bytes(graphs.mlp().SerializeToString())
    classes: list[bytes] = []
    refusals: list[str] = []
    graph, golden = Path(), Path()
    for command in ((sys.executable, "-m", "prsm.node.worker"), (sys.executable, str(_DEVICE))):
        jobs = tmp_path / f"jobs{len(classes)}"
        pool = Pool(jobs_dir=jobs, memory_bytes_max=2**30, command=command)
        async with trio.open_nursery() as nursery:
            await nursery.start(pool.run)
            if not classes:
                out = tmp_path / "out"
                model = await pool.prepare(
                    tmp_path / "raw.onnx", out_dir=out, stages=[1], tokenizer=None
                )
                graph, golden = (out / model.shards[0].file, out / model.shards[0].golden)
            async with pool.open(graph, golden=golden) as opened:
                classes.append(opened.class_id)
            refusals.append(_refusal(pool))
            nursery.cancel_scope.cancel()
    assert classes[0] != classes[1]
    assert refusals[1].endswith("lacks landlock, seccomp")
