"""Real daemons: drawn workers evaluate a model though one lies; a plan outlives kill -9."""

import json
import os
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import prsm
from prsm.node.retrieval.embedder import RECIPE, WEIGHTS
from prsm.node.worker.recipes import decoder
from prsm.node.worker.recipes.graph import GraphBuilder
from prsm.protocol.slices import LABEL, encode_slices
from prsm.protocol.tensors import Dtype, Tensor, TensorHead
from prsm.testnet import launch
from tests.tools import graphs

pytestmark = [pytest.mark.long, pytest.mark.e2e]
WIDTH, CLASSES, ROWS, SLICES = 64, 10, 16, 4
BOND = 1_000_000_000


def run(home: Path, *words: str) -> Any:  # noqa: ANN401 - any JSON
    """One command of `prsm` on a home; its JSON."""
    command = [sys.executable, "-m", "prsm.node.cli.main", "--home", str(home), *words]
    environ = os.environ | {"PYTHONPATH": str(Path(prsm.__file__).parents[1])}
    done = subprocess.run(
        [*command, "--json", "--yes"],
        capture_output=True,
        text=True,
        check=False,
        env=environ,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def classifier(path: Path, *, name: str = "x") -> np.ndarray[Any, Any]:
    """A linear classifier on the disk; its weights."""
    weights = np.random.default_rng(7).standard_normal((WIDTH, CLASSES)).astype(np.float32)
    graph = GraphBuilder("classes")
    graph.input(name, onnx.TensorProto.FLOAT, ["batch", WIDTH])
    graph.node("MatMul", [name, graph.weight("w", weights)], to_name="scores")
    graph.output("scores", onnx.TensorProto.FLOAT, ["batch", CLASSES])
    path.write_bytes(graph.model().SerializeToString())
    return weights


def labelled(weights: np.ndarray[Any, Any], wrong: int) -> bytes:
    """Rows with what the model says of them as labels, but for the first `wrong` of each slice."""
    slices = []
    for part in range(SLICES):
        rows = np.random.default_rng(part).standard_normal((ROWS, WIDTH)).astype(np.float32)
        classes = (rows @ weights).argmax(axis=1)
        classes[:wrong] = (classes[:wrong] + 1) % CLASSES
        slices.append(
            (
                Tensor(TensorHead("x", Dtype.F32, (ROWS, WIDTH)), rows.tobytes()),
                Tensor(TensorHead(LABEL, Dtype.I64, (ROWS,)), struct.pack(f"<{ROWS}q", *classes)),
            )
        )
    return encode_slices(slices)


@pytest.fixture
def network(tmp_path: Path) -> Iterator[launch.Network]:
    made = launch.create(tmp_path / "net", 4, liars=[3])
    for node in made.nodes:
        config = node.home.root / "config.toml"
        config.write_text(config.read_text().replace("[worker]", f'[worker]\nbond = "{BOND}"'))
    try:
        made.start()
        yield made
    finally:
        made.stop()


def test_drawn_workers_score_a_model_and_a_plan_outlives_a_kill(
    network: launch.Network, tmp_path: Path
) -> None:
    homes = [node.home.root for node in network.nodes]
    weights = classifier(tmp_path / "classes.onnx")
    (tmp_path / "test.slices").write_bytes(labelled(weights, wrong=1))
    run(homes[0], "model", "add", str(tmp_path / "classes.onnx"), "--name", "classes")
    added = run(homes[0], "dataset", "add", str(tmp_path / "test.slices"), "--name", "classes-test")
    assert (added["rows"], added["registered"]) == (ROWS * SLICES, True)
    found = evaluated(homes[0])
    score = found["score"]
    assert (score["correct"], score["total"]) == ((ROWS - 1) * SLICES, ROWS * SLICES)
    assert score["low_millionths"] < score["accuracy_millionths"] < score["high_millionths"]
    assert len(found["workers"]) >= 2
    shown = run(homes[1], "model", "show", "classes")
    assert shown["scores"] == [score]
    assert run(homes[1], "model", "scores", "classes")["items"] == [score]
    check_plan(network, homes, tmp_path)


def evaluated(home: Path) -> Any:  # noqa: ANN401 - any JSON
    """The first evaluation that finds workers: they pledge when they are up."""
    deadline = time.monotonic() + 60
    while True:
        try:
            return run(home, "model", "evaluate", "classes", "classes-test")
        except AssertionError as error:
            if "PRSM-3027" not in str(error) or time.monotonic() > deadline:
                raise
        time.sleep(1)  # noqa: TID251 - other processes tell nobody


def check_plan(network: launch.Network, homes: list[Path], folder: Path) -> None:
    """Embed, then classify what came out; the requester's daemon is killed on the way."""
    (folder / "encoder.onnx").write_bytes(graphs.encoder().SerializeToString())
    _, tokenizer = decoder.write(folder / "text", graphs.TINY)
    encoder = ("model", "add", str(folder / "encoder.onnx"), "--name", "encoder")
    run(homes[0], *encoder, "--tokenizer", str(tokenizer))
    steps = [
        {"id": "read", "kind": "embed", "model": "encoder", "texts": ["one", "two words"]},
        {
            "id": "tell",
            "kind": "infer",
            "model": "classes",
            "takes": "read",
            "renamed": {"sentence_embedding": "x"},
        },
    ]
    plan = {"steps": steps, "budget": "1000000000"}
    (folder / "plan.json").write_text(json.dumps(plan))
    plan_id = run(homes[0], "plan", "run", str(folder / "plan.json"), "--no-wait")["plan_id"]
    begun = wait_for(homes[0], plan_id, lambda now: now["steps"][0]["state"] == "done")
    network.nodes[0].signal(signal.SIGKILL)
    while network.nodes[0].is_running():
        time.sleep(0.05)  # noqa: TID251 - a dead process tells nobody
    network.start_missing()
    done = wait_for(homes[0], plan_id, lambda now: now["is_over"])
    assert done["state"] == "done", done
    assert done["steps"][0] == begun["steps"][0]
    result = run(homes[0], "plan", "result", plan_id)
    [scores] = result["tensors"]
    assert (scores["name"], scores["shape"]) == ("scores", [2, CLASSES])
    [vectors] = run(homes[0], "plan", "result", plan_id, "read")["tensors"]
    assert vectors["shape"] == [2, WIDTH]


def wait_for(home: Path, plan_id: str, is_so: Any) -> Any:  # noqa: ANN401 - any JSON
    """A plan, once it is so; a daemon that starts may not answer yet."""
    deadline = time.monotonic() + 60
    while True:
        try:
            now = run(home, "plan", "show", plan_id)
            if is_so(now):
                return now
        except AssertionError:
            now = None
        assert time.monotonic() < deadline, now
        time.sleep(0.1)  # noqa: TID251 - other processes tell nobody


@pytest.mark.skipif(find_spec(WEIGHTS) is None, reason="the MiniLM weights are not installed")
def test_texts_are_embedded_by_peers_and_searched_here(
    network: launch.Network, tmp_path: Path
) -> None:
    """MiniLM reads the cards and the texts, so what a card says is found by its vector."""
    home = network.nodes[0].home.root
    subprocess.run([*RECIPE, str(tmp_path / "minilm")], check=True, capture_output=True)
    card = tmp_path / "card.json"
    card.write_text('{"summary": "Sorts handwritten digits.", "task": "image-classification"}')
    classifier(tmp_path / "classes.onnx")
    added = ("model", "add", str(tmp_path / "classes.onnx"), "--name", "classes")
    run(home, *added, "--card", str(card))
    reader = ("model", "add", str(tmp_path / "minilm" / "model.onnx"), "--name", "minilm")
    card.write_text('{"summary": "Turns sentences into vectors.", "task": "embedding"}')
    tokenizer = str(tmp_path / "minilm" / "tokenizer.json")
    run(home, *reader, "--tokenizer", tokenizer, "--card", str(card))
    (tmp_path / "plan.toml").write_text(
        """
budget = "1000000000"
[[steps]]
id = "read"
kind = "embed"
model = "minilm"
texts = ["which number is written here", "meaning of a sentence as numbers"]
[[steps]]
id = "find"
kind = "search"
takes = "read"
limit = 2
"""
    )
    found = run(home, "plan", "run", str(tmp_path / "plan.toml"))
    assert found["step"] == "find"
    best = [next(hit["ref"] for hit in found["hits"] if hit["row"] == row) for row in (0, 1)]
    assert best == ["classes@1.0.0", "minilm@1.0.0"]
    assert len(found["hits"]) == 4
