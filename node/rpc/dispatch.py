"""From bytes to a checked call and back: JSON-RPC 2.0 with batches and notifications.

Knows: the method table, its handlers, scopes, limits. Must not know: HTTP, trio, what a handler
does. Every answer is a JSON-RPC document; a traceback never leaves the node.

Source: https://www.jsonrpc.org/specification
"""

import difflib
import functools
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any, Final

import msgspec

from prsm.node.rpc.errors import (
    BadRequest,
    CallTooLarge,
    Forbidden,
    InternalFault,
    UnknownMethod,
    error_data,
    only_leaf,
)
from prsm.node.rpc.methods.table import ALIASES, METHODS
from prsm.node.rpc.pages import PageParams, page_of
from prsm.node.rpc.reading import JSON_ERRORS, ParamsReader, parse_failed
from prsm.node.rpc.reasons import entry_for
from prsm.node.rpc.spec import Caller, Method, Params
from prsm.protocol.errors import PrsmError
from prsm.protocol.jsontext import UNREADABLE

BODY_BYTES_MAX: Final = 4 * 1024 * 1024
BATCH_CALLS_MAX: Final = 100
BATCH_ANSWER_BYTES_MAX: Final = 1024 * 1024
_ID_CHARS_MAX: Final = 256

Handler = Callable[[Any, Caller], Awaitable[Any]]
Fence = Callable[[Method], AbstractContextManager[object]]
OnFault = Callable[[str, str, Exception], None]
OnRefused = Callable[[Method, Caller], None]


@dataclass(slots=True)
class Trail:
    """How far a call has come: whether a handler has answered, whatever a layer makes of that."""

    is_answered: bool = False


@dataclass(frozen=True, slots=True)
class Ask:
    """One admitted call, as the layers around its handler see it."""

    method: Method
    params: Params
    caller: Caller
    key: str = ""  # its idempotency key, if it came with one
    trail: Trail = field(default_factory=Trail, compare=False)  # one, however it is changed


Go = Callable[[Ask], Awaitable[object]]
# What every call passes on its way to the handler: it may refuse, answer by itself, or go on.
Layer = Callable[[Ask, Go], Awaitable[object]]


class _Call(msgspec.Struct):
    method: str
    jsonrpc: str = ""
    params: msgspec.Raw = msgspec.Raw()
    id: int | str | msgspec.UnsetType | None = msgspec.UNSET


class _Fault(msgspec.Struct):
    code: int
    message: str
    data: dict[str, object]


class _Answer(msgspec.Struct):
    id: int | str | None
    result: object
    jsonrpc: str = "2.0"


class _Refusal(msgspec.Struct):
    id: int | str | None
    error: _Fault
    jsonrpc: str = "2.0"


class Incomplete(AssertionError):
    """The handlers do not match the method table: a bug of ours, found at start."""


def bind(
    handlers: Mapping[str, Handler],
    *,
    methods: Mapping[str, Method] = METHODS,
    fence: Fence | None = None,
    on_fault: OnFault | None = None,
    layers: Sequence[Layer] = (),
    on_refused: OnRefused = lambda _method, _caller: None,
) -> "Dispatcher":
    """Join the method table with its handlers, or refuse to start.

    Args:
        handlers: method name -> `async (params struct, caller) -> result struct`.
        methods: the table; the node's own unless a test gives another.
        fence: context around each handler that turns its deadline into `CallTimeout`.
        on_fault: told (method, trace id, exception) of every untyped exception.
        layers: what each admitted call passes, the first one outermost; the fence is inside them.
        on_refused: told of each call whose caller may not make it, before it is answered.

    Raises:
        Incomplete: a method without a handler, or a handler without a method.
    """
    missing = sorted(methods.keys() - handlers.keys())
    surplus = sorted(handlers.keys() - methods.keys())
    if missing or surplus:
        raise Incomplete(f"methods without handler: {missing}; handlers without method: {surplus}")
    dispatcher = Dispatcher(handlers, methods=methods, fence=fence, on_fault=on_fault)
    dispatcher.wrap(layers)
    dispatcher.on_refused = on_refused
    return dispatcher


class Dispatcher:
    """Answers calls; made by `bind`.

    Attributes:
        in_flight: handlers at work now.
        on_refused: told of each call whose caller may not make it.
    """

    def __init__(
        self,
        handlers: Mapping[str, Handler],
        *,
        methods: Mapping[str, Method],
        fence: Fence | None,
        on_fault: OnFault | None,
    ) -> None:
        self._handlers = dict(handlers)
        self._methods = methods
        self._fence: Fence = fence or (lambda _method: nullcontext())
        self._on_fault: OnFault = on_fault or (lambda _method, _trace, _error: None)
        self._calls = msgspec.json.Decoder(_Call)
        self._batches = msgspec.json.Decoder(list[msgspec.Raw])
        self._reader = ParamsReader(methods)
        self.in_flight = 0
        self.on_refused: OnRefused = lambda _method, _caller: None
        self._go: Go = self._handle

    def wrap(self, layers: Sequence[Layer]) -> None:
        """Put layers around every handler, the first one outermost."""
        for layer in reversed(layers):
            self._go = functools.partial(_through, layer, self._go)

    async def call(self, name: str, params: Params, caller: Caller) -> object:
        """Call a method from inside the node, as `caller`: for doors of another form than JSON-RPC.

        Args:
            name: of the method table.
            params: its own struct, already checked.
            caller: whose scopes and bounds hold as for any call.

        Returns:
            The result struct.

        Raises:
            Forbidden: the caller lacks the method's scope.
            PrsmError: what the handler raises.
        """
        method = self._methods[name]
        assert isinstance(params, method.params), name
        self._admit(method, caller)
        return await self._go(Ask(method, params, caller))

    async def read(self, name: str, pairs: Mapping[str, str], caller: Caller) -> bytes:
        """Call a method with parameters that came as texts; the result as JSON.

        Args:
            name: of the method table.
            pairs: parameter -> text, as in a query.
            caller: whose scopes and bounds hold as for any call.

        Raises:
            PrsmError: why not; a fault of the node is one of reason `internal`.
        """
        method = self._methods[name]
        self._admit(method, caller)
        params = self._reader.convert(method, pairs)
        try:
            return msgspec.json.encode(await self._go(Ask(method, params, caller)))
        except PrsmError:
            raise
        except Exception as error:  # as in `_answer_one`
            raise self._typed(name, caller, error) from error

    def _admit(self, method: Method, caller: Caller) -> None:
        try:
            _refuse_scope(method, caller)
        except Forbidden:
            self.on_refused(method, caller)
            raise

    async def _handle(self, ask: Ask) -> object:
        self.in_flight += 1
        try:
            with self._fence(ask.method):
                result = await self._handlers[ask.method.name](ask.params, ask.caller)
                ask.trail.is_answered = True
        finally:
            self.in_flight -= 1
        if isinstance(ask.params, PageParams):
            return page_of(result, ask.params, ask.method.page_by)
        return result

    async def answer(self, raw: bytes, caller: Caller) -> bytes | None:
        """Answer one body: a call or a batch.

        Args:
            raw: the whole body, at most `BODY_BYTES_MAX`.
            caller: whose scopes are checked against each method.

        Returns:
            The JSON document, or None if there was nothing but notifications.
        """
        if len(raw) > BODY_BYTES_MAX:
            what = f"{len(raw)} bytes, at most {BODY_BYTES_MAX}"
            return refusal(CallTooLarge(what), trace_id=caller.trace_id)
        if raw.lstrip(b" \t\r\n")[:1] == b"[":
            return await self._answer_batch(raw, caller)
        return await self._answer_one(raw, caller)

    async def _answer_batch(self, raw: bytes, caller: Caller) -> bytes | None:
        try:
            calls = self._batches.decode(raw)
        except JSON_ERRORS as error:
            return refusal(parse_failed(error), trace_id=caller.trace_id)
        if not 1 <= len(calls) <= BATCH_CALLS_MAX:
            what = f"a batch of {len(calls)} calls, between 1 and {BATCH_CALLS_MAX} are taken"
            fault = CallTooLarge(what) if calls else BadRequest(what)
            return refusal(fault, trace_id=caller.trace_id)
        answers: list[bytes] = []
        room = BATCH_ANSWER_BYTES_MAX
        for call in calls:
            if room <= 0:
                # Not run at all: its effect without its answer would be worse.
                what = f"answers of the batch pass {BATCH_ANSWER_BYTES_MAX} bytes; call not run"
                found = _id_of(bytes(call))
                if found is msgspec.UNSET:
                    continue
                fault = CallTooLarge(what)
                answers.append(refusal(fault, call_id=found, trace_id=caller.trace_id))
                continue
            reply = await self._answer_one(bytes(call), caller)
            if reply is not None:
                room -= len(reply)
                answers.append(reply)
        return b"[" + b",".join(answers) + b"]" if answers else None

    async def _answer_one(self, raw: bytes, caller: Caller) -> bytes | None:
        try:
            call = self._read(raw)
        except PrsmError as error:
            found = _id_of(raw)
            known = None if found is msgspec.UNSET else found
            return refusal(error, call_id=known, trace_id=caller.trace_id)
        silent = call.id is msgspec.UNSET
        call_id = None if isinstance(call.id, msgspec.UnsetType) else call.id
        try:
            result = await self._run(call, caller)
            reply = msgspec.json.encode(_Answer(call_id, result))
        except PrsmError as error:
            reply = refusal(error, call_id=call_id, trace_id=caller.trace_id)
        except Exception as error:  # noqa: BLE001 - one faulty call must not end the door
            typed = self._typed(call.method, caller, error)
            reply = refusal(typed, call_id=call_id, trace_id=caller.trace_id)
        return None if silent else reply

    def _typed(self, name: str, caller: Caller, error: Exception) -> PrsmError:
        """What a caller is told of an untyped exception; the log has the rest."""
        leaf = only_leaf(error)
        if isinstance(leaf, PrsmError):
            return leaf
        self._on_fault(name, caller.trace_id, error)
        return InternalFault(f"{name} failed inside the node")

    def _read(self, raw: bytes) -> _Call:
        try:
            call = self._calls.decode(raw)
        except msgspec.ValidationError as error:
            raise BadRequest(f"no JSON-RPC call: {error}") from error
        except JSON_ERRORS as error:
            raise parse_failed(error) from error
        if call.jsonrpc != "2.0":
            raise BadRequest(f'jsonrpc is {call.jsonrpc[:16]!r}, not "2.0"')
        if isinstance(call.id, str) and len(call.id) > _ID_CHARS_MAX:
            raise BadRequest(f"an id of {len(call.id)} characters, at most {_ID_CHARS_MAX}")
        return call

    async def _run(self, call: _Call, caller: Caller) -> object:
        name = ALIASES.get(call.method, call.method)
        method = self._methods.get(name)
        if method is None:
            near = difflib.get_close_matches(name[:80], self._methods, n=1)
            raise UnknownMethod(
                f"no method {name[:80]!r}",
                hint=f"did you mean {near[0]!r}?" if near else "prsm rpc methods",
            )
        self._admit(method, caller)
        params, key = self._reader.read(method, bytes(call.params))
        return await self._go(Ask(method, params, caller, key))


async def _through(layer: Layer, go: Go, ask: Ask) -> object:
    return await layer(ask, go)


def _refuse_scope(method: Method, caller: Caller) -> None:
    if method.scope not in caller.scopes:
        raise Forbidden(
            f"{method.name} asks for the scope {method.scope.value!r}, {caller.name} has "
            f"{', '.join(sorted(caller.scopes)) or 'none'}",
        )
    if caller.methods and not any(fnmatchcase(method.name, one) for one in caller.methods):
        raise Forbidden(f"{caller.name} may call {', '.join(caller.methods)}, not {method.name}")


def refusal(error: PrsmError, *, call_id: int | str | None = None, trace_id: str = "") -> bytes:
    """A JSON-RPC error document for a typed error."""
    fault = _Fault(
        code=entry_for(error.reason).code,
        message=error.what,
        data=error_data(error, trace_id=trace_id),
    )
    return msgspec.json.encode(_Refusal(call_id, fault))


class _OnlyId(msgspec.Struct):
    id: int | str | msgspec.UnsetType | None = msgspec.UNSET


def _id_of(raw: bytes) -> int | str | msgspec.UnsetType | None:
    """The id of a call that could not be read otherwise; None if there is no usable one."""
    try:
        found = msgspec.json.decode(raw, type=_OnlyId).id
    except UNREADABLE:
        return None
    return found if not isinstance(found, str) or len(found) <= _ID_CHARS_MAX else None
