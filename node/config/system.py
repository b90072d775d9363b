"""The configuration of the whole machine: below the file of each node, above profiles.

Knows: where it lies, and the variable that names another place. Must not know: any key.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from prsm.node.config.section import ConfigError

SYSTEM_FILE: Final = Path("/etc/prsm/config.toml")
NAMED_BY: Final = "PRSM_SYSTEM_CONFIG"
WITHOUT: Final = f"to start without it: {NAMED_BY}= in front of the command"


def system_file(environ: Mapping[str, str]) -> Path | None:
    """The file of the machine; None if there is none, or if the variable is empty.

    Args:
        environ: `PRSM_SYSTEM_CONFIG` names another file than /etc/prsm/config.toml.

    Raises:
        ConfigError: the variable names a file that is not there, or nobody may look for it.
    """
    named = environ.get(NAMED_BY)
    if named == "":
        return None
    path = SYSTEM_FILE if named is None else Path(named).expanduser().absolute()
    try:
        os.stat(path)  # noqa: PTH116 - Path.exists hides that it may not be looked for
    except FileNotFoundError as error:
        if named is None:
            return None
        raise ConfigError(f"{path}, which {NAMED_BY} names, is not there", hint=WITHOUT) from error
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise ConfigError(f"{path} cannot be read: {why}", hint=WITHOUT) from error
    return path
