"""Tells a program of the operator's that an alert fires, or is over: it can wake a person.

The program is started without a shell, with one JSON document on its standard input and nothing
else of ours: no descriptors, no environment but PATH, HOME and LANG. One runs at a time.

Knows: changes of alerts, an argument vector. Must not know: rules, who reads the messages.
"""

import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec
import trio

from prsm.node.clock import utc_text
from prsm.node.telemetry import logs
from prsm.node.telemetry.alertrules import Severity
from prsm.node.telemetry.alerts import Change

RUN_S_MAX: Final = 30.0  # a mail or a web hook takes a second; what hangs is ended
TRIES: Final = 3
PAUSE_S: Final = 20.0  # between two tries: a network that is away comes back
WAITING_MAX: Final = 64  # more than there are rules, each firing and over
_RANK: Final[dict[Severity, int]] = {"info": 0, "warning": 1, "critical": 2}
_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

log: Final = logs.get("pager")


class Call(msgspec.Struct, frozen=True):
    """What the program reads, as one line of JSON."""

    node: str
    name: str
    severity: Severity
    state: str  # firing, over
    since: str
    text: str
    runbook: str


class Pager:
    """Calls the program for each change that is severe enough.

    Args:
        argv: program and arguments; empty: nobody is called.
        least: severity from which on it is called.
        node: how the operator calls this node.
        pause_s: between two tries.
    """

    def __init__(
        self, argv: Sequence[str], least: Severity, *, node: str, pause_s: float = PAUSE_S
    ) -> None:
        self._argv, self._least, self._node, self._pause_s = tuple(argv), least, node, pause_s
        self._send, self._receive = trio.open_memory_channel[Call](WAITING_MAX)

    def tell(self, change: Change) -> None:
        """Have the program told; never waits."""
        rule = change.rule
        if not self._argv or _RANK[rule.severity] < _RANK[self._least]:
            return
        call = Call(
            node=self._node,
            name=rule.name,
            severity=rule.severity,
            state="firing" if change.is_firing else "over",
            since=utc_text(change.since_ms),
            text=rule.text,
            runbook=rule.runbook,
        )
        try:
            self._send.send_nowait(call)
        except trio.WouldBlock:
            log.warning("nobody is called: too many wait", name=rule.name, waiting=WAITING_MAX)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Call, one after another, until cancelled."""
        task_status.started()
        async for call in self._receive:
            for number in range(TRIES):
                if number:
                    await trio.sleep(self._pause_s)
                why = await self._run_once(call)
                if not why:
                    log.info("called", name=call.name, state=call.state)
                    break
                log.warning("the program of alerts.notify failed", name=call.name, why=why)
            else:
                log.error("nobody was called", name=call.name, state=call.state)

    async def _run_once(self, call: Call) -> str:
        """Why it failed; "" if it ended with code 0."""
        document = msgspec.json.encode(call) + b"\n"
        environment = {"PATH": _PATH, "HOME": str(Path.home()), "LANG": "C.UTF-8"}
        with trio.move_on_after(RUN_S_MAX):
            try:
                done = await trio.run_process(
                    self._argv,
                    stdin=document,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    check=False,
                    env=environment,
                    cwd="/",
                )
            except OSError as error:
                return f"{self._argv[0]}: {error.strerror}"
            return f"it ended with code {done.returncode}" if done.returncode else ""
        return f"it did not end within {RUN_S_MAX:g} s"
