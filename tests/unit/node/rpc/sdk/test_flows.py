"""What a client does, driven by hand: retries, keys, waits, pages."""

from dataclasses import dataclass, field
from typing import Any

import msgspec
import pytest

from prsm.node.rpc.faults import RpcError, fault_of
from prsm.node.rpc.methods.table import METHODS
from prsm.node.rpc.sdk import flows, works
from prsm.node.rpc.sdk.flows import Ask, Flow, Habits, Rest, Retries
from prsm.node.rpc.spec import Method, Params, Result, Scope
from tests.tools.rpc_node import sample

PING = METHODS["rpc_ping"]
SEND = METHODS["wallet_transfer"]


@dataclass
class World:
    """A node of prepared answers, and a clock that only rests move."""

    answers: list[bytes | RpcError]
    now_s: float = 0.0
    asked: list[Ask] = field(default_factory=list)
    rests: list[float] = field(default_factory=list)
    keys: int = 0

    def habits(self, *, tries: int = 5, timeout_s: float | None = 60.0) -> Habits:
        return Habits(Retries(tries), timeout_s, lambda: self.now_s, lambda: 0.5, self._key)

    def drive(self, flow: Flow[Any]) -> Any:  # noqa: ANN401 - of that flow
        try:
            step = next(flow)
            while True:
                if isinstance(step, Rest):
                    self.rests.append(step.seconds)
                    self.now_s += step.seconds
                    step = flow.send(b"")
                    continue
                self.asked.append(Ask(step.method, dict(step.params), step.limit_s))
                answer = self.answers.pop(0)
                step = flow.throw(answer) if isinstance(answer, RpcError) else flow.send(answer)
        except StopIteration as done:
            return done.value

    def _key(self) -> str:
        self.keys += 1
        return f"key-{self.keys}"


def refusal(reason: str, **data: object) -> RpcError:
    return fault_of(-1, reason, {"reason": reason, **data})


def test_only_what_may_succeed_later_is_tried_again() -> None:
    world = World([refusal("busy"), refusal("rate_limited", retry_after_ms=700), b"1"])
    assert world.drive(flows.call(PING, {}, world.habits())) == b"1"
    assert world.rests == [0.05, 0.7]  # half of the bound by the dice; what the node asked for
    world = World([refusal("insufficient_funds")])
    with pytest.raises(RpcError, match="insufficient_funds"):
        world.drive(flows.call(PING, {}, world.habits()))
    assert world.rests == []


def test_pauses_double_up_to_their_bound_and_tries_end() -> None:
    world = World([refusal("busy") for _ in range(9)])
    with pytest.raises(RpcError, match="busy"):
        world.drive(flows.call(PING, {}, world.habits(tries=9, timeout_s=1000)))
    assert world.rests == [0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 2.5, 2.5]


def test_no_try_begins_behind_the_deadline() -> None:
    world = World([refusal("busy", retry_after_ms=4000) for _ in range(3)])
    with pytest.raises(RpcError, match="busy"):
        world.drive(flows.call(PING, {}, world.habits(timeout_s=9.0)))
    assert world.rests == [4.0, 4.0]
    assert [ask.limit_s for ask in world.asked] == [9.0, 5.0, 1.0]


def test_a_call_without_a_timeout_has_its_methods_own() -> None:
    world = World([b"1"])
    world.drive(flows.call(SEND, {}, world.habits(timeout_s=None)))
    assert world.asked[0].limit_s == SEND.deadline_ms / 1000 + flows.GRACE_S


@pytest.mark.parametrize("reason", ["node_unreachable", "mempool_full"])
def test_a_write_carries_one_key_over_its_tries(reason: str) -> None:
    world = World([refusal(reason), b"1"])
    world.drive(flows.call(SEND, {"to": "x"}, world.habits()))
    assert [ask.params["idempotency_key"] for ask in world.asked] == ["key-1", "key-1"]
    assert world.asked[0].params["to"] == "x"


@pytest.mark.parametrize("reason", ["deadline_passed", "cancelled"])
def test_a_write_whose_outcome_nobody_knows_is_not_sent_again(reason: str) -> None:
    world = World([refusal(reason), b"1"])
    with pytest.raises(RpcError, match=reason):
        world.drive(flows.call(SEND, {}, world.habits()))
    world = World([refusal(reason), b"1"])
    assert world.drive(flows.call(PING, {}, world.habits())) == b"1"  # a read is


def test_text_that_is_given_once_is_not_asked_for_twice() -> None:
    world = World([refusal("busy"), refusal("node_unreachable"), b"1"])
    with pytest.raises(RpcError, match="node_unreachable"):
        world.drive(flows.call(METHODS["infer_readTokens"], {}, world.habits()))
    assert [ask.params for ask in world.asked] == [{}, {}]


def test_a_key_of_the_caller_is_kept_and_a_read_has_none() -> None:
    world = World([refusal("mempool_full"), b"1", b"1"])
    world.drive(flows.call(SEND, {"idempotency_key": "mine"}, world.habits()))
    world.drive(flows.call(PING, {}, world.habits()))
    assert [ask.params for ask in world.asked] == [
        *({"idempotency_key": "mine"}, {"idempotency_key": "mine"}),
        {},
    ]


def test_an_answer_of_another_form_is_told() -> None:
    world = World([b'{"time": 3}'])
    with pytest.raises(RpcError, match="in another form") as caught:
        world.drive(flows.ask(PING, {}, world.habits()))
    assert caught.value.reason == "node_unreachable"


def _job(**changes: object) -> bytes:
    plain = msgspec.to_builtins(sample(METHODS["job_get"].result))
    return msgspec.json.encode({**plain, "error": None, **changes})


def test_a_wait_looks_until_the_end_and_tells_each_look() -> None:
    world = World([_job(is_over=False, state="running", rows_done=3), _job(is_over=True)])
    first = msgspec.json.decode(_job(is_over=False, state="locked"), type=METHODS["job_get"].result)
    told: list[str] = []
    ended = world.drive(
        works.wait_job(world.habits(), first, None, lambda job: told.append(job.state))
    )
    assert ended.state == "done"
    assert told == ["locked", "running", "done"]
    assert [ask.params["wait_ms"] for ask in world.asked] == [1_000, 1_000]


def test_a_wait_outlasts_a_node_that_is_started_anew() -> None:
    gone = [refusal("node_unreachable") for _ in range(19)]
    first = msgspec.json.decode(_job(is_over=False), type=METHODS["job_get"].result)
    world = World([*gone, _job(is_over=True)])
    assert world.drive(works.wait_job(world.habits(timeout_s=None), first, None, None)).is_over
    assert 30 < sum(world.rests) < 60
    world = World([refusal("node_unreachable"), _job(is_over=True)])
    with pytest.raises(RpcError, match="node_unreachable"):
        world.drive(works.wait_job(world.habits(tries=1), first, None, None))


def test_a_wait_that_nobody_watches_holds_the_connection_longer() -> None:
    world = World([_job(is_over=True)])
    first = msgspec.json.decode(_job(is_over=False), type=METHODS["job_get"].result)
    world.drive(works.wait_job(world.habits(), first, None, None))
    assert [ask.params["wait_ms"] for ask in world.asked] == [20_000]


def test_a_wait_ends_at_its_own_deadline_and_says_how_to_go_on() -> None:
    world = World([])
    first = msgspec.json.decode(_job(is_over=False), type=METHODS["job_get"].result)
    with pytest.raises(RpcError, match="not over yet") as caught:
        world.drive(works.wait_job(world.habits(), first, 0.0, None))
    assert (caught.value.reason, caught.value.retryable) == ("deadline_passed", False)
    assert "prsm job show" in caught.value.hint


def test_a_failed_job_raises_its_own_reason() -> None:
    fault = {"reason": "price_exceeded", "what": "4 is more than 3"}
    world = World([_job(is_over=True, state="failed", error=fault)])
    first = msgspec.json.decode(_job(is_over=False), type=METHODS["job_get"].result)
    with pytest.raises(RpcError, match="4 is more than 3") as caught:
        world.drive(works.wait_job(world.habits(), first, None, None))
    assert type(caught.value).__name__ == "PriceExceeded"


class Rows(Result, frozen=True):
    """A page of a list."""

    items: tuple[int, ...]
    next_cursor: str | None = None


class RowParams(Params, frozen=True):
    """Where it begins."""

    cursor: str = ""


LIST = Method("row_list", RowParams, Rows, Scope.READ, "Rows.")


def test_pages_follow_their_cursors() -> None:
    world = World([b'{"items":[1,2],"next_cursor":"a"}', b'{"items":[3]}'])
    first = world.drive(flows.page(LIST, {}, None, world.habits()))
    last = world.drive(flows.page(LIST, {}, first.cursor, world.habits()))
    assert (first.items, last.items, last.cursor) == ((1, 2), (3,), None)
    assert [ask.params for ask in world.asked] == [{}, {"cursor": "a"}]


def test_a_page_that_leads_to_itself_is_no_end_of_reading() -> None:
    world = World([b'{"items":[1],"next_cursor":"a"}'])
    with pytest.raises(RpcError, match="same page twice"):
        world.drive(flows.page(LIST, {}, "a", world.habits()))


def test_what_is_no_list_has_no_pages() -> None:
    world = World([msgspec.json.encode(sample(PING.result))])
    with pytest.raises(TypeError, match="answers no list"):
        world.drive(flows.page(PING, {}, None, world.habits()))
