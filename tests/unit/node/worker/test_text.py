import json
from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prsm.node.worker import text
from prsm.node.worker.recipes import decoder
from prsm.protocol.messages.pipe import ModelRefused

_LENGTHS = st.lists(st.integers(0, 256), max_size=60)


@given(_LENGTHS, st.integers(1, 9))
def test_plan_holds_every_row_once(lengths: list[int], rows_per_batch: int) -> None:
    batches = text.plan(lengths, rows_per_batch)
    assert sorted(row for _, rows in batches for row in rows) == list(range(len(lengths)))
    for size, rows in batches:
        assert 1 <= len(rows) <= rows_per_batch
        assert all(text.bucket(lengths[row]) == size for row in rows)
        assert list(rows) == sorted(rows)
    sizes = [size for size, _ in batches]
    assert sizes == sorted(sizes)


@given(st.integers(0, 256))
def test_bucket_equals_its_slow_twin(tokens: int) -> None:
    buckets = [*range(8, 65, 8), *range(96, 257, 32)]
    assert text.bucket(tokens) == min(size for size in buckets if size >= tokens)


def test_batches_pad_inside_the_bucket() -> None:
    tokenizer = text.load(decoder.build_tokenizer().to_str().encode())
    texts = ["abc", "a" * 20, "xyz"]
    found = list(text.batches(tokenizer, texts, rows_per_batch=2, tokens_max=256))
    assert [rows for rows, _ in found] == [(0, 2), (1,)]
    arrays = found[0][1]
    padding = decoder.build_tokenizer().token_to_id(decoder.PADDING)
    assert arrays["input_ids"].dtype == np.int64
    assert arrays["input_ids"].shape == (2, 8)
    assert set(arrays["input_ids"][0, 3:]) == {padding}
    assert arrays["attention_mask"].sum(axis=1).tolist() == [3, 3]


def test_batches_cut_long_texts() -> None:
    tokenizer = text.load(decoder.build_tokenizer().to_str().encode())
    ((_, arrays),) = text.batches(tokenizer, ["a" * 500], rows_per_batch=1, tokens_max=256)
    assert arrays["input_ids"].shape == (1, 256)


@pytest.mark.parametrize("raw", [b"", b"{}", b"\xff\xfe", b'{"model": {"type": "Magic"}}'])
def test_load_refuses_what_is_no_tokenizer(raw: bytes) -> None:
    with pytest.raises(ModelRefused, match="does not load"):
        text.load(raw)


def _file(model: Mapping[str, object], **parts: object) -> bytes:
    return json.dumps({"version": "1.0", "added_tokens": [], "model": model, **parts}).encode()


def test_equal_texts_have_equal_tokens_whatever_dice_the_file_asks_for() -> None:
    """Goal: a tokenizer that leaves merges out at random is as good as one that does not."""
    model = {
        "type": "BPE",
        "vocab": {"a": 0, "b": 1, "ab": 2, "aba": 3},
        "merges": [["a", "b"], ["ab", "a"]],
    }
    due = text.ids_of(text.load(_file(model)), "abaabaabab" * 9)
    found = text.load(_file({**model, "dropout": 0.5}))
    assert text.ids_of(found, "abaabaabab" * 9) == due


WORDS = {"type": "WordLevel", "vocab": {"a": 0, "[UNK]": 1}, "unk_token": "[UNK]"}


@pytest.mark.parametrize(
    "raw",
    [
        _file(WORDS, pre_tokenizer={"type": "FixedLength", "length": 0}),  # panics
        _file({**WORDS, "vocab": {"a": 0}}),  # raises
    ],
)
def test_a_tokenizer_that_fails_on_a_text_is_refused(raw: bytes) -> None:
    tokenizer = text.load(raw)
    with pytest.raises(ModelRefused, match="the tokenizer fails on a text: "):
        list(text.batches(tokenizer, ["b"], rows_per_batch=1, tokens_max=8))
