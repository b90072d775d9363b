"""A text is cut before the first stop word, however it is parted."""

from hypothesis import given
from hypothesis import strategies as st

from prsm.node.web.openai.stops import Cutter

TEXTS = st.text("ab\n", max_size=24)
STOPS = st.lists(st.text("ab\n", min_size=1, max_size=4), max_size=3)


def letter_by_letter(text: str, stops: list[str]) -> str:
    """The dumb twin: look at every beginning of the text."""
    for end in range(1, len(text) + 1):
        ended = [stop for stop in stops if text[:end].endswith(stop)]
        if ended:
            return text[: end - max(map(len, ended))]
    return text


@given(st.lists(TEXTS, max_size=6), STOPS)
def test_parts_join_to_the_text_before_the_stop_that_is_complete_first(
    parts: list[str], stops: list[str]
) -> None:
    cutter = Cutter(stops)
    told = "".join(cutter.feed(part) for part in parts) + cutter.end()
    whole = "".join(parts)
    assert told == letter_by_letter(whole, stops)
    assert cutter.is_cut == any(stop in whole for stop in stops)


def test_what_may_begin_a_stop_waits_and_nothing_else_does() -> None:
    cutter = Cutter(["\nuser:"])
    assert [cutter.feed(part) for part in ("hi\n", "us", "e all", " of it\nuse")] == [
        "hi",
        "",
        "\nuse all",
        " of it",
    ]
    assert cutter.feed("r: me") == ""
    assert cutter.is_cut
    assert (cutter.feed("more"), cutter.end()) == ("", "")
