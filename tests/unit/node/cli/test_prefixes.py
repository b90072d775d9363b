"""Ids by their first characters: one thing, several, none, and what looks whole."""

from typing import Any

import pytest

from prsm.node.cli.prefixes import Ambiguous, whole_id
from prsm.node.rpc.client import RpcError
from prsm.storage.errors import NotFound

JOBS = ["0x" + digit * 64 for digit in "ab"] + ["0x" + "a" * 63 + "c"]


def ask(method: str) -> dict[str, Any]:
    items = {
        "job_list": [{"job_id": one} for one in JOBS],
        "task_list": [{"task_id": "pull-11112222"}, {"task_id": "pull-1111aaaa"}],
        "net_getPeers": [{"peer_id": "12D3KooW" + "A" * 44}],
    }
    return {"items": items[method]}


@pytest.mark.parametrize(
    ("name", "text", "whole"),
    [
        ("job_id", "0xbbbb", JOBS[1]),
        ("job_id", "bbbbbb", JOBS[1]),
        ("job_id", JOBS[0], JOBS[0]),
        ("job_id", "0xbb", "0xbb"),  # too short to mean one: the node says what it wants
        ("task_id", "pull-11112", "pull-11112222"),
        ("task_id", "other", "other"),
        ("peer_id", "12D3K", "12D3KooW" + "A" * 44),
        ("ref", "whatever", "whatever"),
    ],
)
def test_what_begins_one_id_means_it(name: str, text: str, whole: str) -> None:
    assert whole_id(name, text, ask) == whole


def test_several_are_named_and_none_is_said() -> None:
    with pytest.raises(Ambiguous, match="2 ids begin with '0xaaaa'"):
        whole_id("job_id", "0xaaaa", ask)
    with pytest.raises(Ambiguous):
        whole_id("task_id", "pull-1111", ask)
    with pytest.raises(NotFound, match="no job begins with '0xcccc'"):
        whole_id("job_id", "0xcccc", ask)


def test_a_list_that_is_refused_leaves_the_text_to_the_node() -> None:
    def refuse(_method: str) -> dict[str, Any]:
        raise RpcError(-32002, "no", {"reason": "forbidden"})

    assert whole_id("job_id", "0xaaaa", refuse) == "0xaaaa"
