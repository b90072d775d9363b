"""The keys that sign tokens: `keys/rpc.jwt`, made at need, a new one by rotation.

Knows: the file and its mode. Must not know: tokens, who holds them.
"""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from prsm.node.home import write_private
from prsm.node.telemetry import logs
from prsm.protocol.errors import LocalError

KEYS_MAX: Final = 4  # the current one, and old ones in their time of grace
_KEY_BYTES: Final = 32  # as long as the hash (RFC 7518, 3.2)


class TokensDamaged(LocalError):
    """The file of tokens or of their key cannot be read."""

    reason = "tokens_damaged"


@dataclass(frozen=True, slots=True)
class Key:
    """A signing key; `until_ms` (ms since 1970) is None for the current one."""

    id: str
    secret: bytes
    until_ms: int | None = None


def new_key() -> Key:
    """A key nobody had before."""
    key = Key(secrets.token_hex(4), secrets.token_bytes(_KEY_BYTES))
    logs.secrets.guard(key.secret)
    return key


def write_keys(path: Path, keys: Mapping[str, Key]) -> None:
    """Write a line for each key: its id, its bytes in hex, until when (0: the current one)."""
    lines = (f"{key.id} {key.secret.hex()} {key.until_ms or 0}\n" for key in keys.values())
    write_private(path, "".join(lines).encode("ascii"))


def read_keys(path: Path) -> list[Key]:
    """Read all keys; none if the file is absent.

    Raises:
        TokensDamaged: others may read it, or it holds something else.
    """
    try:
        mode = path.stat().st_mode & 0o777
        lines = path.read_text(encoding="ascii").splitlines()
    except FileNotFoundError:
        return []
    except (OSError, UnicodeDecodeError) as error:
        raise TokensDamaged(f"{path} cannot be read: {error}", hint=mend(path)) from error
    if mode & 0o077:
        raise TokensDamaged(f"{path} has mode {mode:04o}, at most 0600", hint=f"chmod 600 {path}")
    try:
        rows = [line.split() for line in lines]
        keys = [Key(name, bytes.fromhex(text), int(until) or None) for name, text, until in rows]
    except ValueError as error:
        raise TokensDamaged(f"{path} is no file of token keys", hint=mend(path)) from error
    whole = all(len(key.secret) == _KEY_BYTES for key in keys)
    if not whole or [key.until_ms for key in keys].count(None) != 1:
        raise TokensDamaged(f"{path} has no one current key", hint=mend(path))
    for key in keys:
        logs.secrets.guard(key.secret)
    return keys


def mend(path: Path) -> str:
    """What to do about a file that cannot be read."""
    return f"move {path} away; every token made so far then ends"
