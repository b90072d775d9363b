from pathlib import Path

import numpy as np
import pytest

from prsm.node.worker import session, text
from prsm.node.worker.optimise import pin
from prsm.node.worker.prepare import WHOLE, Preparation
from prsm.node.worker.recipes import minilm
from prsm.node.worker.scan import Policy, scan

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        minilm.find() is None, reason=f"the wheel {minilm.DISTRIBUTION} is not installed"
    ),
]
_SENTENCES = [
    "A validator signs one block at each height.",
    "Every validator signs exactly one block per height.",
    "The cat sleeps on the warm windowsill.",
]


def test_minilm_finds_what_sentences_have_in_common(tmp_path: Path) -> None:
    model_file, tokenizer_file = minilm.write(tmp_path)
    raw = model_file.read_bytes()
    scan(raw, Policy())
    model = session.load(raw)
    tokenizer = text.load(tokenizer_file.read_bytes())
    ((rows, feeds),) = text.batches(tokenizer, _SENTENCES, rows_per_batch=8, tokens_max=256)
    vectors = session.compute(model, feeds, session.run_options())["sentence_embedding"]
    assert rows == (0, 1, 2)
    assert vectors.shape == (3, 384)
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-6)
    likeness = vectors @ vectors.T
    assert likeness[0, 1] > 0.8
    assert likeness[0, 2] < 0.2


@pytest.mark.long
def test_minilm_split_equals_whole_for_every_count(tmp_path: Path) -> None:
    """Goal: bit-equality on real weights. Method: the preparation's own check, K = 1 to 12."""
    files: list[str] = []
    work = Preparation(Policy(), session.compute, lambda name, _: files.append(name))
    model_file, _ = minilm.write(tmp_path)
    prepared = work.run(model_file.read_bytes(), tmp_path, range(2, 13))
    assert prepared.stages_max == 32
    assert WHOLE in files
    flops = [shard.weight_flops for shard in prepared.shards if shard.stages == 6]
    assert flops == [flops[0]] * 6


def test_minilm_split_equals_whole(tmp_path: Path) -> None:
    work = Preparation(Policy(), session.compute, lambda _name, _data: None)
    model_file, _ = minilm.write(tmp_path)
    prepared = work.run(model_file.read_bytes(), tmp_path, [2, 3, 6])
    assert len(prepared.shards) == 12


def test_minilm_pin_is_repeatable(tmp_path: Path) -> None:
    model_file, _ = minilm.write(tmp_path)
    raw = model_file.read_bytes()
    assert pin(raw, tmp_path) == pin(raw, tmp_path)
