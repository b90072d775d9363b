"""What every command knows: the global options, the node, and how answers are shown.

With `--json` exactly one document goes to standard output, the RPC result verbatim; everything
else goes to standard error. Knows: streams, the client. Must not know: any method.
"""

import os
import select
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import click
import msgspec

from prsm.node.cli.render import show, show_wide
from prsm.node.home import Home, default_home
from prsm.node.rpc.client import Client, Target, find
from prsm.node.rpc.errors import CallTimeout, NodeUnreachable
from prsm.node.rpc.target import Credentials, read_credentials

POLL_S: Final = 0.05


@dataclass
class Session:
    """Global options of one command line."""

    home: Home
    node: str = ""
    json: bool = False
    quiet: bool = False
    yes: bool = False
    timeout_s: float = 30.0
    limit_s: float | None = None  # of --timeout, where it was given
    progress: str = "auto"
    is_home_given: bool = False
    is_patient: bool = True  # a node that is starting is waited for
    shown: Credentials = field(default_factory=Credentials)
    _client: Client | None = field(default=None, repr=False)

    @property
    def target(self) -> Target:
        """Where the node answers.

        Raises:
            NodeUnreachable, HomeMissing: nothing runs there, or nothing was made there.
        """
        return find(self.home, node=self.node, shown=self.shown)

    def call(self, method: str, params: Mapping[str, object] | None = None) -> bytes:
        """Call a method; the bytes of its result."""
        if self._client is None:
            self._client = Client(self._awaited_target(), timeout_s=self.timeout_s)
        return self._client.call_raw(method, params)

    @property
    def is_terminal(self) -> bool:
        """Whether a person can be asked."""
        return sys.stdin.isatty()

    def _awaited_target(self) -> Target:
        """Where the node answers; one that is starting is waited for, with a notice."""
        deadline = time.monotonic() + self.timeout_s
        is_told = False
        while True:
            try:
                return self.target
            except NodeUnreachable as error:
                holder = None if self.node else self.home.holder()
                if holder is None or holder.work or not self.is_patient:
                    raise
                if time.monotonic() > deadline:
                    raise CallTimeout(
                        f"process {holder.pid} opened no door in {self.timeout_s:g} s",
                        hint="prsm logs, or wait longer with --timeout",
                    ) from error
                if not is_told:
                    self.note(f"process {holder.pid} is starting; waiting for its door")
                    is_told = True
            pause()

    def post(self, path: str, value: object) -> bytes:
        """POST JSON to a page that asks for no token; the answer's body."""
        if self._client is None:
            self._client = Client(self._awaited_target(), timeout_s=self.timeout_s)
        return self._client.post(path, value)

    def ask(self, method: str, params: Mapping[str, object] | None = None) -> dict[str, Any]:
        """Call a method whose result is an object."""
        return msgspec.json.decode(self.call(method, params), type=dict[str, Any])

    def whole(self, name: str, text: str) -> str:
        """An id of which perhaps the first characters were typed; `name` is its parameter."""
        from prsm.node.cli.prefixes import whole_id

        return whole_id(name, text, self.ask)

    def close(self) -> None:
        """End the connection."""
        if self._client is not None:
            self._client.close()
            self._client = None

    def answer(self, raw: bytes, human: Callable[[Any], None] = show) -> None:
        """Give the command's one answer: verbatim with `--json`, else through `human`."""
        if self.json:
            sys.stdout.write(raw.decode() + "\n")
        else:
            human(msgspec.json.decode(raw))

    def answer_value(self, value: object, human: Callable[[Any], None] = show) -> None:
        """As `answer`, for a value that comes from no RPC call."""
        self.answer(msgspec.json.encode(value), human)

    def note(self, text: str) -> None:
        """Tell a person something beside the answer."""
        if not self.quiet:
            click.echo(text, err=True)

    def note_written(self, raw: bytes) -> None:
        """Say how to follow a transaction, if the answer of a write names one."""
        answer = msgspec.json.decode(raw)
        tx_id = answer.get("tx_id") if isinstance(answer, dict) else None
        if isinstance(answer, dict) and answer.get("queued"):
            self.note(f"queued: {answer['queued']}; see: prsm storage outbox")
        if tx_id:
            self.note(f"follow it with: prsm chain tx {tx_id}")

    def confirm(self, question: str) -> None:
        """Ask before something that cannot be undone.

        Raises:
            click.UsageError: nobody can answer, and `--yes` was not given.
            click.Abort: the person said no.
        """
        if self.yes:
            return
        if not self.is_terminal:
            raise click.UsageError("this asks a question and there is no terminal; add --yes")
        click.confirm(question, abort=True, err=True)


pass_session: Final = click.make_pass_decorator(Session)


def open_session(options: Mapping[str, Any]) -> Session:
    """A session from parsed global options."""
    if options.get("no_color"):
        os.environ["NO_COLOR"] = "1"  # what rich and programs we start obey
    if options.get("wide"):
        show_wide()
    given = options.get("home")
    home = Home(Path(given).expanduser().absolute()) if given else default_home(os.environ)
    return Session(
        home=home,
        node=options.get("node") or os.environ.get("PRSM_NODE", ""),
        json=bool(options.get("json")),
        quiet=bool(options.get("quiet")),
        yes=bool(options.get("yes")),
        timeout_s=float(options.get("timeout") or 30.0),
        limit_s=options.get("timeout"),
        progress=options.get("progress") or "auto",
        is_home_given=bool(given),
        shown=read_credentials(
            os.environ,
            token_file=options.get("token_file") or "",
            sign_key=options.get("sign_key") or "",
            ca_file=options.get("ca_file") or "",
        ),
    )


def pause() -> None:
    """Wait a moment between two looks at something."""
    select.select((), (), (), POLL_S)
