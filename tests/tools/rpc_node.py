"""A node made of answers only: a typed handler for every method of the table.

`sample` builds the least value of any parameter or result type, so that a test speaks of every
method without a hand-kept list.
"""

import re
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, Final

import msgspec
import trio
from msgspec import inspect

from prsm.node.rpc.methods.table import METHODS
from prsm.node.rpc.spec import ALL_SCOPES, Caller, Method

ANYBODY: Final = Caller("test", ALL_SCOPES, "trace-1")
NOBODY: Final = Caller("nobody", frozenset(), "trace-0")

_TEXTS: Final = (
    *("0x" + "00" * 32, "0", "0x00", "0x" + "00" * 8, "12D3KooW" + "A" * 44),
    *("b" + "a" * 58, "x", "1.0.0", "float32", "default", ""),
)


def sample(shape: object) -> Any:  # noqa: ANN401 - of that type
    """The least value of a type that its bounds allow."""
    return msgspec.convert(_sample(inspect.type_info(shape)), type=shape)


def _sample(info: inspect.Type) -> object:  # noqa: C901, PLR0911 - dispatch
    match info:
        case inspect.StrType():
            return next(text for text in _TEXTS if _fits(text, info))
        case inspect.IntType():
            return max(info.ge or 0, 0 if info.gt is None else info.gt + 1)
        case inspect.FloatType():
            return 0.5
        case inspect.BoolType():
            return True
        case inspect.LiteralType():
            return "done" if "done" in info.values else info.values[0]  # nobody waits for it
        case inspect.Metadata():
            return _sample(info.type)
        case inspect.UnionType():
            plain = [one for one in info.types if not isinstance(one, inspect.NoneType)]
            return _sample(plain[0])
        case inspect.VarTupleType() | inspect.ListType():
            return [_sample(info.item_type)]
        case inspect.DictType():
            return {}
        case inspect.StructType():
            # A list that had more would be asked for it, for ever.
            return {
                field.encode_name: None if field.name == "next_cursor" else _sample(field.type)
                for field in info.fields
            }
        case _:
            raise AssertionError(f"no sample of {info}")


def _fits(text: str, info: inspect.StrType) -> bool:
    shortest = info.min_length or 0
    longest = info.max_length if info.max_length is not None else len(text)
    ok = info.pattern is None or re.search(info.pattern, text) is not None
    return ok and shortest <= len(text) <= longest


class FakeNode:
    """Handlers that answer with samples and remember who called what.

    Attributes:
        calls: (method, parameters) in order; callers: who made them.
        answers: method -> what it answers instead of its sample; an exception is raised, a deque
            gives one answer for each call.
    """

    def __init__(self) -> None:
        self.calls: list[tuple[str, Any]] = []
        self.callers: list[Caller] = []
        self.answers: dict[str, Any] = {}
        self.before: dict[str, Callable[[], Awaitable[None]]] = {}
        self._called = trio.Event()

    async def wait_calls(self, count: int) -> None:
        """Wait until so many calls have come in."""
        while len(self.calls) < count:
            self._called = trio.Event()
            await self._called.wait()

    def handlers(self) -> dict[str, Callable[[Any, Caller], Awaitable[Any]]]:
        """One handler for each method."""
        return {name: self._handler(method) for name, method in METHODS.items()}

    def _handler(self, method: Method) -> Callable[[Any, Caller], Awaitable[Any]]:
        async def handle(params: object, caller: Caller) -> object:
            assert isinstance(params, method.params)
            self.calls.append((method.name, params))
            self.callers.append(caller)
            self._called.set()
            if method.name in self.before:
                await self.before[method.name]()
            answer = self.answers.get(method.name)
            if isinstance(answer, deque):
                answer = answer.popleft()
            if isinstance(answer, BaseException):
                raise answer
            return sample(method.result) if answer is None else answer

        return handle
