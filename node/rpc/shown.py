"""Results as HTML for notebooks: a table of rows or of fields, a job's work as bars.

Every text is escaped and there is no script, no style sheet and no request, so that the output of
a notebook stays harmless where it is shown. Amounts are shown in FTNS.

Knows: shapes of results. Must not know: calls.
"""

from collections.abc import Iterable, Iterator, Sequence
from html import escape
from typing import Any, Final, get_args, get_type_hints

import msgspec

from prsm.node.rpc.methods.work import Job, JobWorker
from prsm.node.rpc.spec import AmountText
from prsm.protocol.ids import format_ftns

ROWS_MAX: Final = 200  # a notebook keeps what it shows
_TEXT_MAX: Final = 96
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
    rows = getattr(result, "items", None)
    if isinstance(rows, tuple):
        return _rows(rows)
    if isinstance(result, msgspec.Struct):
        return _fields(result, without=set())
    return f"<pre>{escape(str(result))}</pre>"


def waterfall(job: Job) -> str:
    """Who computed what for a job: a bar for each worker, as long as it computed.

    Bars begin at the left: the node knows how long each worker was at it, not when.
    """
    workers = sorted(job.workers, key=lambda one: (one.unit, one.stage, one.role))[:ROWS_MAX]
    if not workers:
        return ""
    most_ms = max(1, *(worker.compute_ms for worker in workers))
    height = len(workers) * (_LANE_PX + _GAP_PX) + 24
    width = _LABEL_PX + _BAR_PX + 140
    title = f"compute time by stage and peer of job {job.job_id[:10]}…"
    lanes = "".join(_lane(index, worker, most_ms) for index, worker in enumerate(workers))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" aria-label="{escape(title)}" '
        f'width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
        'font-family="monospace" font-size="11" fill="currentColor">'
        f'<title>{escape(title)}</title>{lanes}<text x="0" y="{height - 8}">'
        f"bars: compute time, the longest {most_ms} ms</text></svg>"
    )


def _lane(index: int, worker: JobWorker, most_ms: int) -> str:
    top = index * (_LANE_PX + _GAP_PX)
    bar = max(1, worker.compute_ms * _BAR_PX // most_ms)
    label = f"unit {worker.unit} stage {worker.stage} {worker.role} {worker.peer_id[-6:]}"
    told = f"{worker.verdict}, {worker.rows} rows, {worker.compute_ms} ms"
    why = f": {worker.why}" if worker.why else ""
    paid = f"{told}, paid {_ftns(worker.paid)}{why}"
    base = top + _LANE_PX - 5
    return (
        f'<text x="0" y="{base}">{escape(label)}</text>'
        f'<rect x="{_LABEL_PX}" y="{top}" width="{bar}" height="{_LANE_PX}" '
        f'fill="{_COLOURS[worker.verdict]}"><title>{escape(paid)}</title></rect>'
        f'<text x="{_LABEL_PX + bar + 6}" y="{base}">'
        f"{escape(worker.verdict)} {worker.compute_ms} ms</text>"
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
    kind = get_type_hints(type(row), include_extras=True).get(name)
    return _ftns(value) if isinstance(value, str) and _is_amount(kind) else value


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
    return f'<span title="{escape(text[:1024])}">{escape(text[:_TEXT_MAX])}…</span>'


def _ftns(amount: str) -> str:
    return f"{format_ftns(int(amount))} FTNS" if amount.isdecimal() else amount


def _is_amount(kind: Any) -> bool:  # noqa: ANN401 - a type or an annotation
    return kind == AmountText or any(_is_amount(one) for one in get_args(kind))
