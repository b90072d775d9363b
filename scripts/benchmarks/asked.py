"""The figures that were asked for, judged by the records of the parts, as one table: worst first.

Each figure of `scripts/figures.toml` names the part and the row that give it, or a command for
somebody's hands and what was seen. Knows: bars, records, Markdown. Must not know: how a part runs.
"""

import math
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Final

import msgspec
from benchmarks.runs import Part, Record, Row

SOURCE: Final = Path(__file__).resolve().parents[1] / "figures.toml"
CLOSE: Final = 1e-9


class Figure(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One figure that was asked for.

    Attributes:
        what: of what.
        subject: which capability asks for it.
        part: that gives it; empty: by hand.
        row: of the part; with `*`, the worst of several.
        of: row of the same part by which it is divided before it is judged.
        beside: row of the same part that is its limit, where the row names none itself.
        times: what a value is multiplied with to be in `unit`.
        unit: of the bar, where the row has none.
        most: bar.
        least: bar.
        exactly: bar.
        aim: what would be welcome beyond the bar.
        why: why it falls short, when it does.
        see: heading of the page that shows more, as a link has it.
        bar: in words, where the number says too little, or by hand.
        command: by hand.
        seen: by hand: what was seen; empty: nobody looked yet.
        holds: by hand.
        on: by hand: date and commit.
    """

    what: str
    subject: str
    part: str = ""
    row: str = ""
    of: str = ""
    beside: str = ""
    times: float = 1.0
    unit: str = ""
    most: float | None = None
    least: float | None = None
    exactly: float | None = None
    aim: str = ""
    why: str = ""
    see: str = ""
    bar: str = ""
    command: str = ""
    seen: str = ""
    holds: bool = True
    on: str = ""

    def asks(self, row: str) -> bool:
        """Whether it is made of this row."""
        return fnmatchcase(row, self.row) or row in {self.of, self.beside}


class Sheet(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Parts by name, and all that was asked for."""

    parts: dict[str, Part]
    figures: tuple[Figure, ...] = msgspec.field(name="figure")

    def is_asked(self, part: str, row: str) -> bool:
        """Whether a figure is made of this row of a part."""
        return any(figure.part == part and figure.asks(row) for figure in self.figures)


class Verdict(IntEnum):
    """How a figure stands; the worst first."""

    SHORT = 0
    FAILED = 1
    MISSING = 2
    HOLDS = 3


WORDS: Final = {
    Verdict.SHORT: "**short**",
    Verdict.FAILED: "**part failed**",
    Verdict.MISSING: "not measured",
    Verdict.HOLDS: "holds",
}


@dataclass(frozen=True, slots=True)
class Judged:
    """A figure beside its record.

    Attributes:
        figure: what was asked.
        verdict: how it stands.
        strain: how far the bar is used: above 1 it is missed.
        row: that was measured.
        limit: of the same run.
        record: it came from.
    """

    figure: Figure
    verdict: Verdict
    strain: float = 0.0
    row: Row | None = None
    limit: Row | None = None
    record: Record | None = None


def load(path: Path = SOURCE) -> Sheet:
    """Read parts and figures.

    Raises:
        msgspec.ValidationError: a key nobody knows, or a value of the wrong kind.
    """
    return msgspec.convert(tomllib.loads(path.read_text(encoding="utf-8")), Sheet)


def judge(figure: Figure, record: Record | None) -> Judged:
    """Compare a figure with what its part's record says."""
    if not figure.part:
        seen = Verdict.HOLDS if figure.holds else Verdict.SHORT
        return Judged(figure, seen if figure.seen else Verdict.MISSING)
    rows = {row.name: row for row in record.rows} if record is not None else {}
    found = [row for name, row in rows.items() if fnmatchcase(name, figure.row)]
    by = rows.get(figure.of)
    if record is not None and record.failure:
        return Judged(figure, Verdict.FAILED, record=record)
    if not found or (figure.of and by is None):
        return Judged(figure, Verdict.MISSING, record=record)
    each = [(strain_of(figure, row.value * figure.times, by), row) for row in found]
    strain, row = max(each, key=lambda pair: pair[0])
    limit = by or rows.get(figure.beside)
    if limit is None and row.limit is not None and not row.limit_of.startswith("bar"):
        limit = Row(row.limit_of, row.limit, row.unit)
    holds = strain <= 1 + CLOSE
    return Judged(figure, Verdict.HOLDS if holds else Verdict.SHORT, strain, row, limit, record)


def strain_of(figure: Figure, value: float, by: Row | None = None) -> float:
    """How far the bar is used: 1 at the bar, above it where the bar is missed."""
    if by is not None:
        value = value / by.value if by.value else math.inf
    if figure.exactly is not None:
        return 0.0 if abs(value - figure.exactly) <= CLOSE else math.inf
    if figure.least is not None:
        return figure.least / value if value > 0 else math.inf
    if figure.most is None:  # to be printed
        return 0.0
    if not figure.most:  # nothing at all is allowed
        return math.inf if value > 0 else 0.0
    return value / figure.most


def judge_all(sheet: Sheet, records: Mapping[str, Record]) -> list[Judged]:
    """All figures, the worst first; those alike in the order they were asked for."""
    found = [judge(figure, records.get(figure.part)) for figure in sheet.figures]
    return sorted(found, key=lambda judged: (judged.verdict, -judged.strain))


def table(sheet: Sheet, records: Mapping[str, Record]) -> str:
    """The page's part: a count, the table, and why what falls short does."""
    found = judge_all(sheet, records)
    counts = {verdict: sum(each.verdict is verdict for each in found) for verdict in Verdict}
    told = ", ".join(f"{counts[v]} {WORDS[v].strip('*')}" for v in Verdict if counts[v])
    head = ("subject", "figure", "asked", "measured", "limit of the same run", "ratio")
    lines = [
        f"{len(found)} figures: {told}.",
        "",
        markdown([(*head, "verdict", "command", "date, commit"), *map(_cells, found)]),
    ]
    if short := [each for each in found if each.verdict is Verdict.SHORT]:
        lines += ["", "Why they fall short:", "", *map(_reason, short)]
    machines = sorted({record.machine for record in records.values() if record.rows})
    return "\n".join([*lines, "", "Machine: " + "; ".join(machines or ["none"]) + "."])


def placed(page: str, name: str, text: str) -> str:
    """A page with the text between its markers `<!-- name -->` and `<!-- end name -->`.

    Raises:
        ValueError: the page has no such markers.
    """
    begin, end = f"<!-- {name} -->\n", f"\n<!-- end {name} -->"
    before, found, rest = page.partition(begin)
    _, found_end, after = rest.partition(end)
    if not (found and found_end):
        raise ValueError(f"no markers {name!r}")
    return before + begin + text + end + after


def part_table(record: Record) -> str:
    """All rows of one record, below a line that says where they are from."""
    where = f"{record.date} UTC, commit {record.commit}, {record.machine}"
    rows: list[Sequence[str]] = [("figure", "measured", "unit", "limit", "ratio", "the limit is")]
    for row in record.rows:
        limit = "" if row.limit is None else number(row.limit)
        ratio = "" if row.ratio is None else number(row.ratio)
        rows.append((row.name, number(row.value), row.unit, limit, ratio, row.limit_of))
    return f"{where}, {record.seconds:.0f} s, {record.others}\n\n{markdown(rows)}"


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """Rows, the head first, as a table."""
    lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    lines.insert(1, "|" + "---|" * len(rows[0]))
    return "\n".join(lines)


def number(value: float) -> str:
    """Short, as people write it."""
    if value == int(value) or abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}" if abs(value) < 1 else f"{value:.2f}"


def _cells(judged: Judged) -> Sequence[str]:
    figure, record = judged.figure, judged.record
    command = f"`bench.py {figure.part}`" if figure.part else f"by hand: `{figure.command}`"
    verdict, when = WORDS[judged.verdict], figure.on
    if record is not None and record.rows:
        when = f"{record.date}, {record.commit}"
        verdict += "" if record.is_free else ", beside others"
    measured, limit, ratio = _measured(judged)
    bar = _bar(figure)
    return (figure.subject, figure.what, bar, measured, limit, ratio, verdict, command, when)


def _measured(judged: Judged) -> tuple[str, str, str]:
    """What was measured, its limit with its name, and their ratio."""
    figure, row, by = judged.figure, judged.row, judged.limit
    if row is None:
        return (judged.record.failure if judged.record is not None else figure.seen), "", ""
    unit = f" {figure.unit or row.unit}".rstrip()
    measured = number(row.value * figure.times) + unit
    if by is None:
        return measured, "", ""
    limit = f"{number(by.value * figure.times)}{unit}: {by.name}"
    return measured, limit, number(row.value / by.value) if by.value else ""


def _bar(figure: Figure) -> str:
    unit = " times" if figure.of else f" {figure.unit}".rstrip()
    signs = (("≤", figure.most), ("≥", figure.least), ("=", figure.exactly))
    found = [f"{sign} {number(bar)}{unit}" for sign, bar in signs if bar is not None]
    return (figure.bar or "".join(found)) + (f", aim {figure.aim}" if figure.aim else "")


def _reason(judged: Judged) -> str:
    figure = judged.figure
    more = f" [More](#{figure.see})." if figure.see else ""
    return f"- {figure.subject}, {figure.what}: {figure.why or 'not explained yet.'}{more}"
