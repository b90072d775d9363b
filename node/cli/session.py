"""What every command knows: the global options, the node, and how answers are shown.

With `--json` exactly one document goes to standard output, the RPC result verbatim; everything
else goes to standard error. Knows: streams, the client. Must not know: any method.
"""

import os
import select
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import click
import msgspec

from prsm.node.cli.render import show
from prsm.node.home import Home, default_home
from prsm.node.rpc.client import Client, Target, find

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
    progress: str = "auto"
    _client: Client | None = field(default=None, repr=False)

    @property
    def target(self) -> Target:
        """Where the node answers.

        Raises:
            NodeUnreachable, HomeMissing: nothing runs there, or nothing was made there.
        """
        return find(self.home, node=self.node or os.environ.get("PRSM_NODE", ""))

    def call(self, method: str, params: Mapping[str, object] | None = None) -> bytes:
        """Call a method; the bytes of its result."""
        if self._client is None:
            self._client = Client(self.target, timeout_s=self.timeout_s)
        return self._client.call_raw(method, params)

    def ask(self, method: str, params: Mapping[str, object] | None = None) -> dict[str, Any]:
        """Call a method whose result is an object."""
        return msgspec.json.decode(self.call(method, params), type=dict[str, Any])

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

    def confirm(self, question: str) -> None:
        """Ask before something that cannot be undone.

        Raises:
            click.UsageError: nobody can answer, and `--yes` was not given.
            click.Abort: the person said no.
        """
        if self.yes:
            return
        if not sys.stdin.isatty():
            raise click.UsageError("this asks a question and there is no terminal; add --yes")
        click.confirm(question, abort=True, err=True)


pass_session: Final = click.make_pass_decorator(Session)


def open_session(options: Mapping[str, Any]) -> Session:
    """A session from parsed global options."""
    given = options.get("home")
    home = Home(Path(given).expanduser().absolute()) if given else default_home(dict(os.environ))
    return Session(
        home=home,
        node=options.get("node") or "",
        json=bool(options.get("json")),
        quiet=bool(options.get("quiet")),
        yes=bool(options.get("yes")),
        timeout_s=float(options.get("timeout") or 30.0),
        progress=options.get("progress") or "auto",
    )


def pause() -> None:
    """Wait a moment between two looks at something."""
    select.select((), (), (), POLL_S)
