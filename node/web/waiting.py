"""Runs a coroutine and says when it waits for the first time.

What is over without waiting needs no task of its own beside the one that reads.

Knows: coroutines. Must not know: trio, connections.
"""

import functools
import types
from collections.abc import Callable, Coroutine, Generator
from typing import Any, TypeVar

T = TypeVar("T")


@types.coroutine
def until_it_waits(
    work: Coroutine[Any, Any, T], on_wait: Callable[[], None]
) -> Generator[Any, Any, T]:
    """Await `work`; `on_wait` is called once, before the loop first takes over, or never.

    Args:
        work: what is awaited, in the task of the caller.
        on_wait: may start tasks; raises nothing.

    Returns:
        What `work` returns.

    Raises:
        BaseException: what `work` raises.
    """
    try:
        wanted = work.send(None)
    except StopIteration as end:
        over: T = end.value
        return over
    on_wait()
    while True:
        try:
            given = yield wanted
        except BaseException as error:  # noqa: BLE001, ASYNC103 - the loop throws; `work` decides
            step = functools.partial(work.throw, error)
        else:
            step = functools.partial(work.send, given)
        try:
            wanted = step()
        except StopIteration as end:
            over = end.value
            return over
