"""Handlers of node_getConfig and node_runDoctor: for the node's operator alone.

Knows: the running configuration, the checks. Must not know: what a check looks at.
"""

import os
import re
from typing import Any, Final

import msgspec
import trio

from prsm.node.config import Config, describe, load
from prsm.node.doctor import examine
from prsm.node.home import Home
from prsm.node.rpc.dispatch import Handler
from prsm.node.rpc.errors import Forbidden
from prsm.node.rpc.methods import care
from prsm.node.rpc.spec import Caller, NoParams
from prsm.protocol.errors import PrsmError

_USER_INFO: Final = re.compile(r"(?<=://)[^/@\s]+@")
_ASKED: Final = ("node_getStatus", "net_getPeers")


class CareApi:
    """Answers about what is set and what is wrong."""

    def __init__(self, home: Home, config: Config, asked: dict[str, Handler]) -> None:
        """Join the configuration the node runs with and the methods a check reads."""
        self._home, self._config = home, config
        self._asked = {name: asked[name] for name in _ASKED}
        self._turn = trio.Lock()  # each run holds a thread and reads the folder

    def handlers(self) -> dict[str, Handler]:
        """Method name -> handler."""
        return {"node_getConfig": self.config, "node_runDoctor": self.doctor}

    async def config(self, _params: NoParams, caller: Caller) -> care.ConfigRows:
        """What the node runs with, beside what the next start would take."""
        _refuse_tenant(caller)
        return await trio.to_thread.run_sync(self._rows)

    async def doctor(self, _params: NoParams, caller: Caller) -> care.DoctorReport:
        """Look at everything; the node's own answers are handed to the checks."""
        _refuse_tenant(caller)
        async with self._turn:
            answers: dict[str, dict[str, Any]] = {
                name: msgspec.to_builtins(await handler(NoParams(), caller))
                for name, handler in self._asked.items()
            }
            found = await trio.to_thread.run_sync(lambda: examine(self._home, answers=answers))
        rows = tuple(msgspec.convert(msgspec.to_builtins(one), care.DoctorRow) for one in found)
        return care.DoctorReport(
            faults=sum(row.level == "fault" for row in rows),
            warnings=sum(row.level == "warning" for row in rows),
            items=rows,
        )

    def _rows(self) -> care.ConfigRows:
        now = _flat(self._config)
        try:
            loaded = load(self._home.config, environ=os.environ)
            later, origin = _flat(loaded.config), dict(loaded.origin)
        except PrsmError:  # the file was broken meanwhile; node_runDoctor says how
            later, origin = now, {}
        return care.ConfigRows(
            items=tuple(
                care.ConfigRow(
                    key=key,
                    value=_blanked(value),
                    origin=origin.get(key, "default"),
                    about=describe(key),
                    pending=None if later[key] == value else _blanked(later[key]),
                )
                for key, value in now.items()
            )
        )


def _refuse_tenant(caller: Caller) -> None:
    if caller.tenant:
        raise Forbidden(
            f"{caller.name} belongs to a tenant; this is of the node's operator",
            hint="ask the node's operator",
        )


def _flat(config: Config) -> dict[str, care.ConfigValue]:
    tables: dict[str, dict[str, Any]] = msgspec.to_builtins(config)
    return {f"{name}.{key}": one for name, table in tables.items() for key, one in table.items()}


def _blanked(value: object) -> care.ConfigValue:
    match value:
        case str():
            return _USER_INFO.sub("[secret]@", value)
        case list() | tuple():
            return tuple(_USER_INFO.sub("[secret]@", str(one)) for one in value)
        case bool() | int():
            return value
        case _:
            raise AssertionError(f"no value of a configuration: {value!r}")
