"""Tokens into text: whole characters only, what is broken at the end, tokens that do not exist."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken, normalizers

from prsm.node.worker.recipes.decoder import build_tokenizer
from prsm.node.worker.speech import Speaker
from prsm.protocol.messages.pipe import InputMismatch, ModelRefused

RAW = build_tokenizer().to_str().encode()


def test_character_of_several_tokens_comes_whole() -> None:
    speaker = Speaker(RAW)
    ids = speaker.spell("né☃")
    assert len(ids) == 6
    assert [speaker.say([token], is_last=False) for token in ids] == ["n", "", "é", "", "", "☃"]


def test_broken_end_is_given_with_the_last_tokens() -> None:
    speaker = Speaker(RAW)
    ids = speaker.spell("a☃")[:-1]
    assert speaker.say(ids, is_last=False) == "a"
    assert speaker.say([], is_last=True) == "\ufffd"


@given(st.text(max_size=30).map(str.lower), st.integers(1, 5))
def test_parts_are_the_text(prompt: str, size: int) -> None:
    speaker = Speaker(RAW)
    ids = speaker.spell(prompt)
    parts = [speaker.say(ids[i : i + size], is_last=False) for i in range(0, len(ids), size)]
    assert "".join([*parts, speaker.say([], is_last=True)]) == prompt


@pytest.mark.parametrize("token", [-1, 257, 2**40])
def test_token_outside_the_vocabulary_is_refused(token: int) -> None:
    with pytest.raises(InputMismatch, match="the vocabulary has 257"):
        Speaker(RAW).say([token], is_last=False)


@pytest.mark.parametrize(
    "name", ["<|end|>", "<end_of_turn>", "<\uff5cend\u2581of\u2581sentence\uff5c>"]
)
def test_tokens_that_end_an_answer_are_found(name: str) -> None:
    tokenizer = build_tokenizer()
    tokenizer.add_special_tokens([name])
    speaker = Speaker(tokenizer.to_str().encode())
    assert speaker.ends == (257,)
    assert speaker.say([64, 257], is_last=True) == "a"


def test_a_tokenizer_that_fails_is_refused() -> None:
    """Goal: a stranger's file is not told as a worker that died. Method: parts that panic."""
    model = {"type": "WordLevel", "vocab": {"a": 0, "b": 1}, "unk_token": "a"}
    strip = {"type": "Strip", "content": "a", "start": 1, "stop": 1}
    cut = {"type": "FixedLength", "length": 0}
    parts = {"version": "1.0", "added_tokens": [], "model": model}
    speaker = Speaker(json.dumps({**parts, "decoder": strip, "pre_tokenizer": cut}).encode())
    with pytest.raises(ModelRefused, match="fails on a text"):
        speaker.spell("b")
    with pytest.raises(ModelRefused, match="fails on tokens"):
        speaker.say([0], is_last=False)


def test_special_token_is_one_as_it_is_written_alone() -> None:
    """Goal: what a conversation is looked through for is what ends a turn, and nothing else.

    Method: a file whose tokens are looked for in the normalised text.
    """
    tokenizer = build_tokenizer()
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    tokenizer.add_special_tokens([AddedToken("<|im_end|>", normalized=True)])
    end = tokenizer.token_to_id("<|im_end|>")
    speaker = Speaker(tokenizer.to_str().encode())
    assert end in speaker.spell("a<|im_end|>b")
    for like in ("<|IM_END|>", "\uff1c|im_end|>"):
        assert end in tokenizer.encode(like).ids
        assert end not in speaker.spell(f"a{like}b")


def test_junk_is_no_tokenizer() -> None:
    with pytest.raises(ModelRefused):
        Speaker(b"junk")
