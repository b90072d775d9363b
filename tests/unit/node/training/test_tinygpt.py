"""The small language model, trained for seconds; needs the extra `training`."""

from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from prsm.node.training import tokens
from prsm.node.training.corpus import Corpus
from prsm.node.worker import session
from prsm.node.worker.pipe import Array
from prsm.node.worker.recipes import decoder
from prsm.protocol.errors import LocalError

if TYPE_CHECKING:
    import torch  # noqa: TC004 - see _torch

    from prsm.node.training import learning, network, tinygpt  # noqa: TC004 - see _torch

pytestmark = pytest.mark.long
_CONFIG = decoder.Config(layers=2, width=64, heads=2, positions=64, vocabulary=300)


@pytest.fixture(scope="module", autouse=True)
def _torch() -> None:
    """Import torch when a test is run, not when it is found: that alone takes seconds."""
    globals()["torch"] = pytest.importorskip("torch", reason="the extra `training` is missing")
    for name in ("learning", "network", "tinygpt"):
        globals()[name] = import_module(f"prsm.node.training.{name}")


def _course() -> "learning.Course":
    return learning.Course(steps=30, rows=4, tokens=32, warm_up=5, save_every=10)


_TEXT = Corpus(
    tuple(f"a worker runs batch {n} of the job and signs its receipt" for n in range(60)),
    tuple(f"a worker runs batch {n} of the job" for n in range(60, 80)),
)


def _quiet(line: str) -> None:
    del line


def test_recipe_learns_and_torch_and_onnx_say_the_same(tmp_path: Path) -> None:
    lines: list[str] = []
    built = tinygpt.write(tmp_path, text=_TEXT, config=_CONFIG, course=_course(), say=lines.append)
    assert built.loss_after < built.loss_before - 1
    assert "the same 48 tokens from torch and from ONNX" in lines
    assert built.model.is_file()
    assert built.tokenizer.is_file()


def test_network_is_the_decoders_twin() -> None:
    """Goal: equal logits at every place. Method: random weights, ONNX fed prefix by prefix."""
    weights = network.draw(_CONFIG)
    for name in list(weights):
        weights[name] = weights[name] + torch.randn_like(weights[name]) * 0.1
    arrays = network.as_arrays(weights)
    graph = decoder.build_decoder(_CONFIG, arrays)
    model = session.load(graph.SerializeToString())
    ids = [5, 200, 17, 90, 3, 254]
    expected = network.logits(_CONFIG, weights, torch.tensor([ids]))[0].detach().numpy()
    empty: dict[str, Array] = {
        f"past_{letter}{layer}": np.zeros((1, 2, 0, 32), np.float32)
        for layer in range(2)
        for letter in "kv"
    }
    for count in range(1, len(ids) + 1):
        feeds = {
            "ids": np.array([ids[:count]], np.int64),
            "position_ids": np.arange(count, dtype=np.int64)[None],
            **empty,
        }
        found = session.compute(model, feeds, session.run_options())["logits"][0]
        assert np.allclose(found, expected[count - 1], atol=2e-4)


def test_run_that_was_cut_short_goes_on_as_if_it_was_not(tmp_path: Path) -> None:
    """Goal: a resumed run gives the same bits. Method: stop after 20 of 30 steps, go on."""
    text, asked = _lines()
    whole = learning.train(text, asked, _CONFIG, _course(), folder=tmp_path / "a", say=_quiet)

    class Stop(Exception):
        pass

    def stop_at_20(line: str) -> None:
        if line.startswith("step 20 "):
            raise Stop

    with pytest.raises(Stop):
        learning.train(text, asked, _CONFIG, _course(), folder=tmp_path / "b", say=stop_at_20)
    again = learning.train(text, asked, _CONFIG, _course(), folder=tmp_path / "b", say=_quiet)
    assert (whole.resumed_at, again.resumed_at) == (0, 20)
    assert again.loss_after == whole.loss_after
    for name, one in whole.weights.items():
        assert torch.equal(one, again.weights[name])


def test_checkpoint_of_another_course_is_not_gone_on_from(tmp_path: Path) -> None:
    text, asked = _lines()
    short = replace(_course(), steps=10)
    learning.train(text, asked, _CONFIG, short, folder=tmp_path, say=_quiet)
    other = replace(short, seed=1)
    again = learning.train(text, asked, _CONFIG, other, folder=tmp_path, say=_quiet)
    assert again.resumed_at == 0


def test_checkpoint_of_another_text_is_not_gone_on_from(tmp_path: Path) -> None:
    """Its weights know the ids of another tokenizer, and would be handed out as trained."""
    text, asked = _lines()
    learning.train(text, asked, _CONFIG, _course(), folder=tmp_path, say=_quiet)
    again = learning.train(
        text[::-1].copy(), asked, _CONFIG, _course(), folder=tmp_path, say=_quiet
    )
    assert again.resumed_at == 0


@pytest.mark.parametrize("raw", [b"", b"junk", b"half"])
def test_damaged_checkpoint_is_said_and_training_begins_anew(raw: bytes, tmp_path: Path) -> None:
    text, asked = _lines()
    short = replace(_course(), steps=10)
    learning.train(text, asked, _CONFIG, short, folder=tmp_path, say=_quiet)
    path = tmp_path / "checkpoint.pt"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2] if raw == b"half" else raw)
    lines: list[str] = []
    again = learning.train(text, asked, _CONFIG, short, folder=tmp_path, say=lines.append)
    assert again.resumed_at == 0
    assert any("checkpoint.pt cannot be read" in line for line in lines)


def test_no_steps_are_refused_and_not_handed_out_as_training(tmp_path: Path) -> None:
    text, asked = _lines()
    none = replace(_course(), steps=-5)
    with pytest.raises(LocalError, match="-5 steps of training, at least 1"):
        learning.train(text, asked, _CONFIG, none, folder=tmp_path, say=_quiet)


def test_too_little_text_is_refused(tmp_path: Path) -> None:
    text, asked = _lines()
    with pytest.raises(LocalError, match="too little"):
        learning.train(text, asked[:10], _CONFIG, _course(), folder=tmp_path, say=_quiet)
    long = replace(_course(), tokens=65)
    with pytest.raises(LocalError, match="rows of 65 tokens, the network has 64"):
        learning.train(text, asked, _CONFIG, long, folder=tmp_path, say=_quiet)


def _lines() -> tuple[tokens.Tokens, tokens.Tokens]:
    tokenizer = tokens.learn(_TEXT.training, 300)
    return tokens.line(tokenizer, _TEXT.training), tokens.line(tokenizer, _TEXT.held_out)
