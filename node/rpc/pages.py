"""Long lists by pages: what a method that lists takes and answers beside its own.

A handler answers with all it has; the dispatcher hands out a page of it. The cursor names the last
row and its place, so that rows that come or go meanwhile neither hide others nor come twice.

Knows: structs with `items`. Must not know: methods, transports.
"""

import base64
import binascii
from collections.abc import Sequence
from typing import Annotated, Final

import msgspec

from prsm.node.rpc.errors import BadParams
from prsm.node.rpc.spec import NoParams, Result

ROWS_MAX: Final = 1_000
_CURSOR_CHARS_MAX: Final = 1_024


class PageParams(NoParams, frozen=True):
    """How much of a list, and from where: the `next_cursor` of the page before."""

    limit: Annotated[int, msgspec.Meta(ge=1, le=ROWS_MAX)] = ROWS_MAX
    cursor: Annotated[str, msgspec.Meta(max_length=_CURSOR_CHARS_MAX)] = ""


class Page(Result, frozen=True, kw_only=True):
    """A part of a list; `next_cursor` null: there is no more."""

    next_cursor: str | None = None


class _Mark(msgspec.Struct, array_like=True):
    """The last row of a page: its place in the list and its name."""

    index: int
    name: str


def page_of(whole: object, params: PageParams, by: str) -> object:
    """One page of a result.

    Args:
        whole: a `Page` with all `items`.
        params: which part.
        by: field that names a row.

    Returns:
        The same struct with at most `limit` items.

    Raises:
        BadParams: the cursor is none of ours.
    """
    assert isinstance(whole, Page)
    items: Sequence[object] = getattr(whole, "items")  # noqa: B009 - of any struct with rows
    start = _start(items, params.cursor, by) if params.cursor else 0
    end = start + params.limit
    if not start and len(items) <= end and whole.next_cursor is None:
        return whole
    rows = items[start:end]
    cursor = _cursor(end - 1, str(getattr(rows[-1], by))) if end < len(items) else None
    return msgspec.structs.replace(whole, items=rows, next_cursor=cursor)


def _cursor(index: int, name: str) -> str:
    raw = msgspec.json.encode(_Mark(index, name))
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def _start(items: Sequence[object], cursor: str, by: str) -> int:
    """The place behind the row that the cursor names; where it was, if it is gone."""
    try:
        raw = base64.b64decode(cursor + "=" * (-len(cursor) % 4), b"-_", validate=True)
        mark = msgspec.json.decode(raw, type=_Mark)
    except (binascii.Error, msgspec.MsgspecError, UnicodeError, ValueError) as error:
        raise BadParams(
            "cursor is none of this node's",
            hint="give the next_cursor of the page before, or none to begin",
            field="cursor",
        ) from error
    places = [index for index, row in enumerate(items) if str(getattr(row, by)) == mark.name]
    if mark.index in places:
        return mark.index + 1
    return places[0] + 1 if places else min(max(mark.index, 0), len(items))
