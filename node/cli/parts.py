"""What in a folder is a node's, and what is somebody else's.

Knows: names in a home. Must not know: what the files hold. Imports little: the client starts it.
"""

from contextlib import suppress
from pathlib import Path

from prsm.node.home import Home


def parts(home: Home) -> list[Path]:
    """What lies in the folder that is a node's: files, and folders that are not empty.

    In the order in which they may be deleted: keys when the rest is gone, then what gives the node
    its name, and last of all what says that a node is here, so that whoever is interrupted can type
    the same line again.
    """
    late = (home.keys, home.config, home.version)
    found = [path for path in _listed(home) if _is_part(home, path)]
    return sorted(found, key=lambda path: late.index(path) + 1 if path in late else 0)


def strangers(home: Home) -> list[Path]:
    """What lies in the folder that no node put there."""
    return [path for path in _listed(home) if not _is_part(home, path)]


def remove_empty(home: Home) -> None:
    """Remove folders of a node that hold nothing, and the home itself if it holds nothing else."""
    for folder in (home.wallets, *_folders(home), home.root):
        with suppress(OSError):  # absent, or not empty
            if folder.is_symlink() and not any(folder.iterdir()):
                folder.unlink()
            else:
                folder.rmdir()


def _is_part(home: Home, path: Path) -> bool:
    # An editor or a migration leaves copies beside the configuration.
    is_config = path.name.startswith(home.config.name)
    return is_config or path in (*_folders(home), home.version, home.genesis)


def _listed(home: Home) -> list[Path]:
    found = sorted(home.root.iterdir()) if home.root.is_dir() else []
    return [path for path in found if not path.is_dir() or any(path.iterdir())]


def _folders(home: Home) -> tuple[Path, ...]:
    labs = home.root / "labs"
    return (
        *(home.keys, home.data, home.blocks, home.models, home.jobs, home.run, home.logs),
        *(home.backups, home.addresses.parent, labs),
    )
