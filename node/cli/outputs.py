"""Files that a command writes: looked at before anything is asked, bought or made.

Knows: folders and their modes. Must not know: what is written.
"""

import os
from pathlib import Path
from typing import Any, Final

import click
from typing_extensions import override

_NAME_BYTES_MAX: Final = 240  # of 255: while it is written it has a longer name


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
        if _is_device(path):  # a file of that name would take its place
            self.fail(f"{path} is no file that can be written anew", param, ctx)
        if len(os.fsencode(path.name)) > _NAME_BYTES_MAX:
            self.fail(f"{path.name[:60]}… is longer than {_NAME_BYTES_MAX} bytes", param, ctx)
        folder = path.absolute().parent
        if not folder.is_dir():
            self.fail(f"{folder} is no folder; make it first", param, ctx)
        if not os.access(folder, os.W_OK | os.X_OK):
            self.fail(f"you may not write into {folder}", param, ctx)
        return path


def _is_device(path: Path) -> bool:
    """Is it a pipe or a device, or stands it where the system keeps theirs?"""
    folder = path.absolute().parent.resolve()
    is_system = folder == Path("/dev") or folder.is_relative_to("/proc")  # /dev/fd is a link
    return is_system or (path.exists() and not path.is_file())


OUT_FILE: Final = _OutFile()
