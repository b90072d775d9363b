"""Files of a recipe appear whole or not at all, so that a run cut short leaves no half model."""

from pathlib import Path


def keep(path: Path, raw: bytes) -> None:
    """Write a file beside its place, then move it there.

    Raises:
        OSError: the disk refused; what was there before stays.
    """
    part = path.with_name(path.name + ".part")
    try:
        part.write_bytes(raw)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)  # of a full disk: it would keep it full
