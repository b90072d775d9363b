"""What a client does, step by step, without doing it: calls with retries, waiting, pages.

A flow is a generator: it yields `Ask` or `Rest`, and is sent the answer's bytes, or thrown the
error. The sync and the async client drive the same flows, so that they cannot differ.

Knows: which errors are worth another try. Must not know: sockets, loops, clocks, dice.
"""

from collections.abc import Callable, Generator, Mapping
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

import msgspec

from prsm.node.rpc.errors import NodeUnreachable
from prsm.node.rpc.faults import RpcError, class_for, fault_here, fault_told
from prsm.node.rpc.reasons import UNCLEAR

if TYPE_CHECKING:
    from prsm.node.rpc.spec import Method  # its module takes 3 ms, its bare name nothing

T = TypeVar("T")
GRACE_S: Final = 5.0  # an answer made at its method's deadline still has to travel
_LOOK_MS: Final = 1_000  # how often somebody who watches is told
_REST_MS: Final = 20_000  # how long a connection is held by somebody who only waits
# Whether the call had an effect is not known. After a lost answer the same key finds out; after
# the node's own word for it (`UNCLEAR`) there is nothing more to find out.
_LOST: Final = "node_unreachable"
# Read in a loop, each piece once: a node keeps a bounded number of keys, and these would fill them.
_UNKEYED: Final = frozenset({"infer_readTokens"})


class Ask(NamedTuple):
    """Send a call once, and give it so many seconds."""

    method: str
    params: Mapping[str, object]
    limit_s: float


class Rest(NamedTuple):
    """Wait, then go on."""

    seconds: float


Flow = Generator[Ask | Rest, bytes, T]


class Retries(NamedTuple):
    """How often a call is tried, and how long the pauses grow: full jitter below a doubling bound.

    Source: Brooker, Exponential Backoff and Jitter, AWS Architecture Blog, 2015.
    """

    tries: int = 5
    first_s: float = 0.1
    most_s: float = 5.0


class Habits(NamedTuple):
    """What a client lends to its flows.

    Attributes:
        retries: how often, how long.
        timeout_s: of a call with all its tries; None: the method's own deadline.
        clock: seconds that never go back.
        dice: evenly from 0 to 1.
        key: a new idempotency key.
    """

    retries: Retries
    timeout_s: float | None
    clock: Callable[[], float]
    dice: Callable[[], float]
    key: Callable[[], str]


def patient(habits: Habits) -> Habits:
    """Those of somebody who waits for something anyhow: a node may be started anew meanwhile.

    With the usual bounds the pauses come to half a minute; who never tries again does not here.
    """
    retries = habits.retries
    if retries.tries == 1:
        return habits
    return habits._replace(retries=retries._replace(tries=retries.tries * 4))


def pause_before(error: RpcError, tries: int, habits: Habits) -> float | None:
    """Seconds until another try is worth it; None if none is."""
    retries = habits.retries
    if not error.retryable or tries >= retries.tries:
        return None
    bound_s: float = min(retries.most_s, retries.first_s * 2 ** (tries - 1))
    return max(error.retry_after_ms / 1000, bound_s * habits.dice())


def call(method: "Method", params: Mapping[str, object], habits: Habits) -> Flow[bytes]:
    """Call a method until it answers, is refused for good, or time is up.

    What writes carries an idempotency key, so that a lost answer is not a second effect: the node
    answers the second try with what the first one came to. A refusal that may pass ends a key.

    Raises:
        RpcError: of the class of its reason; the last one.
    """
    limit_s = method.deadline_ms / 1000 + GRACE_S
    deadline = habits.clock() + (limit_s if habits.timeout_s is None else habits.timeout_s)
    sent = dict(params)
    is_write = method.scope != "read"
    if is_write and method.name not in _UNKEYED:
        sent.setdefault("idempotency_key", habits.key())
    tries = 0
    while True:
        try:
            return (yield Ask(method.name, sent, max(0.0, deadline - habits.clock())))
        except RpcError as error:
            tries += 1
            pause_s = pause_before(error, tries, habits)
            if pause_s is None or habits.clock() + pause_s >= deadline:
                raise
            if is_write and not _may_repeat(error, is_keyed="idempotency_key" in sent):
                raise
        yield Rest(pause_s)


def _may_repeat(error: RpcError, *, is_keyed: bool) -> bool:
    """Whether a write may be sent once more without being done twice."""
    return error.reason not in UNCLEAR and (is_keyed or error.reason != _LOST)


def ask(method: "Method", params: Mapping[str, object], habits: Habits) -> Flow[Any]:
    """Call a method and read its result as the table says.

    Raises:
        RpcError: as `call`; node_unreachable if the answer has another form.
    """
    raw = yield from call(method, params, habits)
    return decode(method, raw)


def decode(method: "Method", raw: bytes) -> Any:  # noqa: ANN401 - the result type of the method
    """Read a result.

    Raises:
        RpcError: node_unreachable, if it has another form than this client knows.
    """
    try:
        return msgspec.json.decode(raw, type=method.result)
    except msgspec.MsgspecError as error:
        raise fault_here(
            NodeUnreachable(
                f"the node answered {method.name} in another form: {error}",
                hint="compare `prsm version` with the node's version in `prsm status`",
            )
        ) from error


class Look(NamedTuple):
    """How a wait looks at long work.

    Attributes:
        method: what to ask, with `wait_ms`.
        params: of whom.
        is_over: whether this is its last word.
        hint: what to type if the wait ends before the work.
    """

    method: "Method"
    params: Mapping[str, object]
    is_over: Callable[[Any], bool]
    hint: str


def wait_over(
    look: Look,
    first: T,
    habits: Habits,
    *,
    timeout_s: float | None = None,
    on_progress: Callable[[T], None] | None = None,
) -> Flow[T]:
    """Look at long work until it is over; its last word.

    Raises:
        RpcError: deadline_passed after `timeout_s`; the work goes on.
    """
    deadline = None if timeout_s is None else habits.clock() + timeout_s
    patience_ms = _REST_MS if on_progress is None else _LOOK_MS
    told = first
    while True:
        if on_progress is not None:
            on_progress(told)
        if look.is_over(told):
            return told
        wait_ms = patience_ms
        if deadline is not None:
            left_ms = int((deadline - habits.clock()) * 1000)
            if left_ms <= 0:
                what = f"{' '.join(map(str, look.params.values()))} is not over yet"
                data = {"reason": "deadline_passed", "hint": look.hint, "retryable": False}
                raise class_for("deadline_passed")(-32006, f"{what} after {timeout_s:g} s", data)
            wait_ms = min(patience_ms, left_ms)
        told = yield from ask(look.method, {**look.params, "wait_ms": wait_ms}, patient(habits))


class Page(NamedTuple):
    """Some rows, and where the next begin; None at the end."""

    items: tuple[Any, ...]
    cursor: str | None


def page(
    method: "Method", params: Mapping[str, object], cursor: str | None, habits: Habits
) -> Flow[Page]:
    """One page of a list.

    Raises:
        RpcError: as `ask`.
        TypeError: the method answers no list.
    """
    more = {} if cursor is None else {"cursor": cursor}
    found = yield from ask(method, {**params, **more}, habits)
    if "items" not in getattr(method.result, "__struct_fields__", ()):
        raise TypeError(f"{method.name} answers no list; call it with client.call")
    following = getattr(found, "next_cursor", None) or None
    if following is not None and following == cursor:
        raise fault_here(NodeUnreachable(f"{method.name} gave the same page twice"))
    return Page(tuple(found.items), following)


def fault_of_work(fault: object, name: str, state: str, hint: str) -> RpcError:
    """The error of work that ended otherwise than done, in its own words.

    Args:
        fault: JobFault or TaskFault; None if it gave none.
        name: of the job or task.
        state: what it ended as.
        hint: what to type.
    """
    reason = str(getattr(fault, "reason", "") or "job_failed")
    what = str(getattr(fault, "what", "") or f"{name} ended as {state}")
    return fault_told(reason, what, hint=str(getattr(fault, "hint", "") or hint))
