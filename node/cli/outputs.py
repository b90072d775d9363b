"""Files that a command writes: looked at before anything is asked, bought or made.

Knows: folders and their modes. Must not know: what is written.
"""

import os
from pathlib import Path
from typing import Any, Final

import click
from typing_extensions import override


class _OutFile(click.Path):
    """A file to write, in a folder that is there and may be written."""

    def __init__(self) -> None:
        super().__init__(dir_okay=False, writable=True, path_type=Path)

    @override
    def convert(
        self,
        value: Any,
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> Path:
        """The path, its `~` resolved; fails where it could not be written."""
        try:
            named = Path(value).expanduser()
        except RuntimeError:
            self.fail(f"nobody here has the home folder that {value!r} begins with", param, ctx)
        given = super().convert(named, param, ctx)
        path = Path(os.fsdecode(given))
        folder = path.absolute().parent
        if not folder.is_dir():
            self.fail(f"{folder} is no folder; make it first", param, ctx)
        if not os.access(folder, os.W_OK | os.X_OK):
            self.fail(f"you may not write into {folder}", param, ctx)
        return path


OUT_FILE: Final = _OutFile()
