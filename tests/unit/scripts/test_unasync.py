"""The handles of the client that waits say what the async ones say."""

import pytest

from scripts.unasync import FILE, waiting, written


def test_words_of_a_loop_are_replaced() -> None:
    text = '"""Of `async with`.\n"""\nasync def f(x: "AsyncJob") -> None:\n    await x.g()\n'
    assert waiting(text).endswith('\ndef f(x: "Job") -> None:\n    x.g()\n')
    assert "Of `with`" in waiting(text)


@pytest.mark.parametrize("word", ["anyio.sleep(1)", "async_call()", "AsyncThing"])
def test_a_word_the_table_does_not_know_is_an_error(word: str) -> None:
    with pytest.raises(ValueError, match="is left"):
        waiting(word)


@pytest.mark.slow
def test_the_file_is_the_one_the_source_makes() -> None:
    assert FILE.read_text() == written(), "run .venv/bin/python scripts/unasync.py"
