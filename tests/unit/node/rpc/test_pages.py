"""Pages of long lists: every row once, whatever comes or goes meanwhile."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prsm.node.rpc.dispatch import bind
from prsm.node.rpc.errors import BadParams
from prsm.node.rpc.methods.table import METHODS
from prsm.node.rpc.pages import Page, PageParams, page_of
from tests.tools.rpc_node import ANYBODY, FakeNode, sample


class Row(msgspec.Struct, frozen=True):
    """A row."""

    name: str


class Rows(Page, frozen=True):
    """A list."""

    items: tuple[Row, ...]


def rows(names: list[str]) -> Rows:
    return Rows(items=tuple(map(Row, names)))


def take(names: list[str], limit: int, cursor: str = "") -> tuple[list[str], str | None]:
    page = page_of(rows(names), PageParams(limit, cursor), "name")
    assert isinstance(page, Rows)
    return [row.name for row in page.items], page.next_cursor


@given(st.integers(0, 40), st.integers(1, 12))
def test_pages_together_are_the_list(count: int, limit: int) -> None:
    names = [f"row {n}" for n in range(count)]
    seen: list[str] = []
    cursor: str | None = ""
    while cursor is not None:
        part, cursor = take(names, limit, cursor)
        assert len(part) <= limit
        seen += part
    assert seen == names


def test_rows_that_come_and_go_do_not_shift_a_page() -> None:
    names = ["e", "d", "c", "b", "a"]
    first, cursor = take(names, 2)
    assert (first, cursor is not None) == (["e", "d"], True)
    assert take(["g", "f", *names], 2, cursor or "")[0] == ["c", "b"]
    assert take(["e", "c", "b", "a"], 2, cursor or "")[0] == ["c", "b"]  # the named row is gone
    assert take(["e"], 2, cursor or "") == ([], None)


def test_names_that_are_not_unique_do_not_turn_in_a_circle() -> None:
    names = ["x"] * 5
    assert take(names, 2, take(names, 2)[1] or "")[0] == ["x", "x"]


@pytest.mark.parametrize("cursor", ["?", "a", "AAAA", "bnVsbA", "é", "W10", "WyJhIiwxXQ"])
def test_a_cursor_of_another_hand_is_refused(cursor: str) -> None:
    with pytest.raises(BadParams) as refused:
        take(["a"], 1, cursor)
    assert refused.value.field == "cursor"


def test_every_method_that_pages_says_what_names_a_row() -> None:
    paged = {name for name, method in METHODS.items() if method.page_by}
    assert {"job_list", "task_list", "model_list", "net_getPeers"} <= paged
    for name in paged:
        method = METHODS[name]
        assert issubclass(method.params, PageParams)
        assert issubclass(method.result, Page)
        assert hasattr(sample(method.result).items[0], method.page_by)
    others = {name for name, method in METHODS.items() if issubclass(method.params, PageParams)}
    assert others == paged


async def test_a_method_hands_out_its_list_by_pages() -> None:
    node = FakeNode()
    whole = sample(METHODS["task_list"].result)
    tasks = tuple(
        msgspec.structs.replace(whole.items[0], task_id=f"pull-{n:08x}") for n in range(5)
    )
    node.answers["task_list"] = msgspec.structs.replace(whole, items=tasks)
    door = bind(node.handlers())

    async def ask(**params: object) -> Any:  # noqa: ANN401 - any JSON
        call = {"jsonrpc": "2.0", "id": 1, "method": "task_list", "params": params}
        raw = await door.answer(json.dumps(call).encode(), ANYBODY)
        assert raw is not None
        return json.loads(raw)["result"]

    assert len((await ask())["items"]) == 5
    assert (await ask())["next_cursor"] is None
    first = await ask(limit=3)
    assert [row["task_id"] for row in first["items"]] == [task.task_id for task in tasks[:3]]
    last = await ask(limit=3, cursor=first["next_cursor"])
    assert [row["task_id"] for row in last["items"]] == [task.task_id for task in tasks[3:]]
    assert last["next_cursor"] is None
