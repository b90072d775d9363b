"""`demo` and `testnet`: another program takes over the process.

Knows: its name. Must not know: what it does; it is never imported here.
"""

import os
import sys
from typing import NoReturn

import click

from prsm.node.cli.session import Session, pass_session

_VERBATIM = {
    "ignore_unknown_options": True,
    "allow_interspersed_args": False,
    "help_option_names": [],
}


def hand_over(words: list[str]) -> NoReturn:
    """Replace this process by `python -m prsm.testnet WORDS`."""
    sys.stdout.flush()
    sys.stderr.flush()
    command = [sys.executable, "-m", "prsm.testnet", *words]
    os.execv(command[0], command)  # noqa: S606 - our own program, no shell


@click.command("demo", context_settings=_VERBATIM)
@click.argument("words", nargs=-1, type=click.UNPROCESSED)
@pass_session
def demo(session: Session, words: tuple[str, ...]) -> None:
    """The main job on four nodes, from nothing to a checked bill."""
    hand_over(["demo", *words, *_globals(session)])


@click.command("testnet", context_settings=_VERBATIM)
@click.argument("words", nargs=-1, type=click.UNPROCESSED)
@pass_session
def testnet(session: Session, words: tuple[str, ...]) -> None:
    """Networks on this machine: up, status, kill, down."""
    hand_over([*words, *_globals(session)])


def _globals(session: Session) -> list[str]:
    return ["--json"] if session.json else []
