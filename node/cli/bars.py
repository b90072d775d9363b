"""Steps of long work as bars below one another, each from its begin to its end.

Knows: lines of text. Must not know: what the steps are of.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Final, NamedTuple

from prsm.node.cli.readable import cell
from prsm.node.cli.render import columns, show_table

PEER_CHARS: Final = 6  # the end of a peer id tells peers apart, its beginning does not
_LABEL_CHARS: Final = 40
_NUMBER_CHARS: Final = 26
_BAR_CHARS_MIN: Final = 10


class Bar(NamedTuple):
    """One step; `ended_ms` is None while it lasts.

    Attributes:
        verdict: a word behind the bar; "" for none.
        why: what stands on a line of its own below it; "" for none.
    """

    label: str
    began_ms: int
    ended_ms: int | None
    verdict: str = ""
    why: str = ""


def show_steps(rows: Sequence[Mapping[str, object]], drawn: Callable[[int], Iterable[str]]) -> None:
    """Print steps: drawn for so many characters of a terminal, a table on a pipe."""
    wide = columns()
    if wide is None:
        show_table(list(rows))
        return
    for line in drawn(wide):
        print(line)


def lines_of(head: str, bars: Sequence[Bar], wide: int) -> Iterator[str]:
    """The heading with the whole time, then a line for each bar; words of peers are escaped.

    Args:
        head: what the steps are of.
        bars: in the order they are shown.
        wide: characters of a line.
    """
    most_ms = max((bar.ended_ms or bar.began_ms for bar in bars), default=0) or 1
    room = max(_BAR_CHARS_MIN, wide - _LABEL_CHARS - _NUMBER_CHARS)
    yield f"{head}  {most_ms} ms"
    for bar in bars:
        yield _line(bar, most_ms, room)
        if bar.why:
            yield f"{'':<{_LABEL_CHARS}}  {cell('why', bar.why)}"


def _line(bar: Bar, most_ms: int, room: int) -> str:
    left = min(bar.began_ms * room // most_ms, room - 1)
    right = room if bar.ended_ms is None else min(bar.ended_ms * room // most_ms, room)
    drawn = " " * left + ("-" if bar.ended_ms is None else "=") * max(1, right - left)
    took = "goes on" if bar.ended_ms is None else f"{bar.ended_ms - bar.began_ms} ms"
    verdict = f"  {bar.verdict}" if bar.verdict else ""
    return f"{bar.label:<{_LABEL_CHARS}}|{drawn:<{room}}| {took} from {bar.began_ms}{verdict}"
