"""Where a password comes from: a terminal, a descriptor, a private file; never argv, never env.

Knows: streams and file modes. Must not know: which key it opens.
"""

import os
import stat
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

import click

_BYTES_MAX: Final = 1024
F = TypeVar("F", bound=Callable[..., Any])


def password_options(command: F) -> F:
    """Add `--password-fd` and `--password-file` to a command."""
    file_option = click.option(
        "--password-file", metavar="FILE", help="Read the password from this file (mode 0600)."
    )
    fd_option = click.option(
        "--password-fd", type=int, metavar="N", help="Read the password from this descriptor."
    )
    return file_option(fd_option(command))


def given_password(descriptor: int | None, file: str | None) -> str | None:
    """The password of a descriptor or file; None if neither was named.

    Raises:
        click.UsageError: unreadable, empty, or a file others may read.
    """
    if descriptor is not None:
        try:
            raw = os.read(descriptor, _BYTES_MAX)
        except (OSError, OverflowError) as error:
            raise click.UsageError(f"descriptor {descriptor}: {error}") from error
        return _first_line(raw, f"descriptor {descriptor}")
    if file is None:
        return None
    path = Path(file).expanduser()
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
        raw = path.read_bytes()[:_BYTES_MAX]
    except OSError as error:
        raise click.UsageError(f"{path} cannot be read: {error.strerror}") from error
    if mode & 0o077:
        raise click.UsageError(f"{path} has mode {mode:04o}, at most 0600: chmod 600 {path}")
    return _first_line(raw, str(path))


def ask_password(what: str, *, twice: bool = False) -> str:
    """Ask at the terminal, without echo.

    Raises:
        click.UsageError: there is no terminal.
    """
    if not sys.stdin.isatty():
        raise click.UsageError(
            f"the password of {what} is needed and there is no terminal; "
            "use --password-file or --password-fd"
        )
    answer: str = click.prompt(
        f"password of {what}", hide_input=True, confirmation_prompt=twice, err=True
    )
    return answer


def _first_line(raw: bytes, where: str) -> str:
    try:
        text = raw.decode().partition("\n")[0].rstrip("\r")
    except UnicodeDecodeError as error:
        raise click.UsageError(f"{where} holds no UTF-8 text") from error
    if not text:
        raise click.UsageError(f"{where} holds an empty password")
    return text
