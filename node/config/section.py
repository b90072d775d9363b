"""What every table of config.toml is made of.

Knows: nothing of what a key means.
"""

import msgspec

from prsm.protocol.errors import LocalError


class ConfigError(LocalError):
    """A key, a value or a combination of values that no node can run with."""

    reason = "config_invalid"


class Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One table of config.toml."""


def doc(text: str) -> msgspec.Meta:
    """One line on what a key does, with its unit or danger."""
    return msgspec.Meta(description=text)
