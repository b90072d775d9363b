"""Results as HTML for notebooks: a table of rows or of fields, a job's steps as bars.

Every text is escaped and there is no script, no style sheet and no request, so that the output of
a notebook stays harmless where it is shown. Amounts are shown in FTNS.

Knows: shapes of results. Must not know: calls.
"""

import functools
from collections.abc import Iterable, Iterator, Sequence
from html import escape
from typing import Any, Final, NamedTuple, get_args, get_type_hints

import msgspec

from prsm.node.rpc.methods.work import Job, JobStep, JobTrace, JobWorker
from prsm.node.rpc.spec import AmountText
from prsm.protocol.ids import format_ftns

ROWS_MAX: Final = 200  # a notebook keeps what it shows
_TEXT_MAX: Final = 96
_TITLE_MAX: Final = 1_024  # what the pointer shows of a longer one
_BAR_PX, _LANE_PX, _LABEL_PX, _GAP_PX = 460, 18, 250, 4
# Dark enough on white, light enough on black; apart for every common colour blindness (Okabe, Ito).
_COLOURS: Final = {
    "agreed": "#0072b2",
    "pending": "#8a8a8a",
    "outvoted": "#d55e00",
    "lost": "#cc79a7",
    "unused": "#c0c0c0",
}


def html(result: object) -> str:
    """Show any result: rows as a table, a job with its bars, fields otherwise."""
    if isinstance(result, Job):
        return f"{_fields(result, without={'workers', 'batches', 'because'})}{waterfall(result)}"
    if isinstance(result, JobTrace):
        return f"{_fields(result, without={'steps'})}{waterfall_of_steps(result)}"
    rows = getattr(result, "items", None)
    if isinstance(rows, tuple):
        return _rows(rows)
    if isinstance(result, msgspec.Struct):
        return _fields(result, without=set())
    return f"<pre>{escape(str(result))}</pre>"


def waterfall(job: Job) -> str:
    """Who computed what for a job, and when: a bar for each worker, from first batch to last."""
    workers = sorted(job.workers, key=lambda one: (one.unit, one.stage, one.role))
    title = f"work on job {job.job_id[:10]}… by unit and peer, since it was made"
    return _chart(title, [_lane_of(worker, worker.began_ms, worker.ended_ms) for worker in workers])


def waterfall_of_steps(trace: JobTrace) -> str:
    """When each step of a job began and ended: a bar for each."""
    title = f"steps of job {trace.job_id[:10]}…, since it was made"
    return _chart(title, [_lane_of_step(step) for step in trace.steps])


class _Lane(NamedTuple):
    """A bar: what it is called, from when to when, and what is known of it."""

    label: str
    began_ms: int | None  # None: nothing to draw
    ended_ms: int | None
    verdict: str
    told: str


def _lane_of(worker: JobWorker, began_ms: int | None, ended_ms: int | None, of: str = "") -> _Lane:
    label = f"unit {worker.unit} stage {worker.stage} {worker.role} {worker.peer_id[-6:]} {of}"
    why = f": {worker.why}" if worker.why else ""
    told = f"{worker.verdict}, {worker.rows} rows, {worker.compute_ms} ms computed, paid "
    told += f"{_ftns(worker.paid)}{why}"
    return _Lane(label.rstrip(), began_ms, ended_ms, worker.verdict, told)


def _lane_of_step(step: JobStep) -> _Lane:
    if step.worker is not None:
        return _lane_of(step.worker, step.began_ms, step.ended_ms, step.step)
    unit = "" if step.unit is None else f"unit {step.unit} "
    stage = "" if step.stage is None else f"stage {step.stage} "
    return _Lane(f"{unit}{stage}{step.step}", step.began_ms, step.ended_ms, "pending", step.step)


def _chart(title: str, lanes: Sequence[_Lane]) -> str:
    shown = lanes[:ROWS_MAX]
    if not shown:
        return ""
    most_ms = max(1, *(max(lane.began_ms or 0, lane.ended_ms or 0) for lane in lanes))
    more = len(lanes) - len(shown)
    rest = f"; {more} more bars" if more else ""
    height = len(shown) * (_LANE_PX + _GAP_PX) + 24
    width = _LABEL_PX + _BAR_PX + 200
    drawn = "".join(_bar(index, lane, most_ms) for index, lane in enumerate(shown))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" aria-label="{escape(title)}" '
        f'width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
        'font-family="monospace" font-size="11" fill="currentColor">'
        f'<title>{escape(title)}</title>{drawn}<text x="0" y="{height - 8}">'
        f"bars: from begin to end; all of it {most_ms} ms{rest}</text></svg>"
    )


def _bar(index: int, lane: _Lane, most_ms: int) -> str:
    top = index * (_LANE_PX + _GAP_PX)
    base = top + _LANE_PX - 5
    label = f'<text x="0" y="{base}">{escape(lane.label)}</text>'
    if lane.began_ms is None:
        return f'{label}<text x="{_LABEL_PX + 6}" y="{base}">{escape(lane.verdict)}</text>'
    ended_ms = most_ms if lane.ended_ms is None else lane.ended_ms
    left = lane.began_ms * _BAR_PX // most_ms
    wide = max(1, (ended_ms - lane.began_ms) * _BAR_PX // most_ms)
    took = "goes on" if lane.ended_ms is None else f"{ended_ms - lane.began_ms} ms"
    said = took if lane.verdict == "pending" else f"{lane.verdict} {took}"
    return (
        f'{label}<rect x="{_LABEL_PX + left}" y="{top}" width="{wide}" height="{_LANE_PX}" '
        f'fill="{_COLOURS[lane.verdict]}"><title>{escape(lane.told[:_TITLE_MAX])}</title></rect>'
        f'<text x="{_LABEL_PX + left + wide + 6}" y="{base}">{escape(said)}</text>'
    )


def _rows(rows: Sequence[object]) -> str:
    if not rows:
        return "<p><em>no rows</em></p>"
    shown = rows[:ROWS_MAX]
    names = _names(shown)
    head = "".join(f"<th>{escape(name)}</th>" for name in names)
    body = "".join(
        f"<tr>{''.join(f'<td>{cell}</td>' for cell in _cells(row, names))}</tr>" for row in shown
    )
    more = len(rows) - len(shown)
    rest = f"<p><em>{more} more rows</em></p>" if more else ""
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{rest}"


def _names(rows: Iterable[object]) -> list[str]:
    fields: dict[str, None] = {}
    for row in rows:
        names = getattr(row, "__struct_fields__", ()) or (row if isinstance(row, dict) else ())
        fields |= dict.fromkeys(str(name) for name in names)
    return list(fields) or ["value"]


def _cells(row: object, names: list[str]) -> Iterator[str]:
    for name in names:
        if isinstance(row, dict):
            yield _cell(row.get(name))
        elif isinstance(row, msgspec.Struct):
            yield _cell(_as_read(row, name))
        else:
            yield _cell(row)


def _fields(result: msgspec.Struct, *, without: set[str]) -> str:
    rows = "".join(
        f'<tr><th style="text-align:left">{escape(name)}</th><td>{_cell(_as_read(result, name))}'
        "</td></tr>"
        for name in result.__struct_fields__
        if name not in without
    )
    return f"<table><tbody>{rows}</tbody></table>"


def _as_read(row: msgspec.Struct, name: str) -> object:
    value = getattr(row, name, None)
    return _ftns(value) if isinstance(value, str) and name in _amounts_of(type(row)) else value


@functools.cache
def _amounts_of(kind: type) -> frozenset[str]:
    """Fields of a type that are amounts; finding them takes longer than showing a row."""
    hints = get_type_hints(kind, include_extras=True)
    return frozenset(name for name, hint in hints.items() if _is_amount(hint))


def _cell(value: object) -> str:
    match value:
        case None:
            return ""
        case bool():
            return "yes" if value else "no"
        case tuple() | list():
            return _long(", ".join(_plain(one) for one in value))
        case _:
            return _long(_plain(value))


def _plain(value: object) -> str:
    if isinstance(value, msgspec.Struct | dict):
        return msgspec.json.encode(value).decode()
    return str(value)


def _long(text: str) -> str:
    if len(text) <= _TEXT_MAX:
        return escape(text)
    return f'<span title="{escape(text[:_TITLE_MAX])}">{escape(text[:_TEXT_MAX])}…</span>'


def _ftns(amount: str) -> str:
    return f"{format_ftns(int(amount))} FTNS" if amount.isdecimal() else amount


def _is_amount(kind: Any) -> bool:  # noqa: ANN401 - a type or an annotation
    return kind == AmountText or any(_is_amount(one) for one in get_args(kind))
