"""How the sync client does what flows ask for: over plain sockets, so that it works inside a loop.

A connection is kept for each thread that calls at the same time, up to eight.

Knows: flows, sockets. Must not know: what people call (`client`), any room of the daemon, trio.
"""

import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from prsm.node.rpc import client as thin
from prsm.node.rpc.faults import RpcError, fault_here
from prsm.node.rpc.sdk import flows, names
from prsm.node.rpc.sdk.flows import Ask, Flow, Rest
from prsm.node.rpc.sdk.reach import KEPT_MAX, Reach
from prsm.protocol.errors import PrsmError

if TYPE_CHECKING:
    from prsm.node.rpc.spec import Method  # its module takes 3 ms, its bare name nothing

T = TypeVar("T")


class Driver:
    """The connections of one client, and what is done over them."""

    def __init__(self, reach: Reach) -> None:
        self.reach = reach
        self._idle: list[thin.Client] = []

    def close(self) -> None:
        """Close its connections; a later call opens another."""
        while (line := self._kept()) is not None:
            line.close()

    def ask(self, method: "Method", params: Mapping[str, object]) -> Any:  # noqa: ANN401 - of that method
        """Call a method; its typed result.

        Raises:
            RpcError: of the class of its reason.
        """
        values = names.params_of(method, (), params)
        return self.drive(flows.ask(method, values, self.reach.habits))

    def call(self, name: str, params: Mapping[str, object]) -> Any:  # noqa: ANN401 - of that method
        """Call a method by the name of the table; its typed result.

        Raises:
            RpcError: of the class of its reason.
            AttributeError: no such method.
        """
        return self.ask(names.method_named(name), params)

    def call_raw(self, name: str, params: Mapping[str, object]) -> bytes:
        """The bytes of a result, verbatim.

        Raises:
            RpcError, AttributeError: as `call`.
        """
        found = names.method_named(name)
        return self.drive(flows.call(found, names.params_of(found, (), params), self.reach.habits))

    def rows(self, name: str, params: Mapping[str, object]) -> Iterator[Any]:
        """All rows of a list, page by page, as they are read.

        Raises:
            RpcError: as `call`.
            TypeError: the method answers no list.
        """
        found = names.method_named(name)
        values = names.params_of(found, (), params)
        cursor: str | None = None
        while True:
            page = self.drive(flows.page(found, values, cursor, self.reach.habits))
            yield from page.items
            cursor = page.cursor
            if cursor is None:
                return

    def drive(self, flow: Flow[T]) -> T:
        """Do what a flow asks for, until its end."""
        try:
            step = next(flow)
            while True:
                if isinstance(step, Rest):
                    time.sleep(step.seconds)  # noqa: TID251 - its caller's thread, no loop of ours
                    step = flow.send(b"")
                    continue
                answer = self._try(step)
                step = flow.throw(answer) if isinstance(answer, RpcError) else flow.send(answer)
        except StopIteration as done:
            value: T = done.value
            return value
        except RpcError as error:
            # Where it was thrown is the client's own business; its reader wants the call.
            raise error.with_traceback(None) from error.__cause__

    def _try(self, step: Ask) -> bytes | RpcError:
        try:
            line = self._kept() or thin.Client(self.reach.target)
        except RpcError as error:
            return error
        try:
            return line.call_raw(step.method, step.params, timeout_s=step.limit_s)
        except RpcError as error:
            return error
        except PrsmError as error:
            self.close()  # a node that began anew closed them all
            return fault_here(error)
        except BaseException:  # Ctrl-C in the middle of an answer: the rest of it is nobody's
            line.close()
            raise
        finally:
            self._keep(line)

    def _kept(self) -> thin.Client | None:
        try:  # a look before it would be too early: other threads take them too
            return self._idle.pop()
        except IndexError:
            return None

    def _keep(self, line: thin.Client) -> None:
        if line.is_open and len(self._idle) < KEPT_MAX:
            self._idle.append(line)
        else:
            line.close()
