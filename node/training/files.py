"""Files of a recipe appear whole or not at all, so that a run cut short leaves no half model."""

from pathlib import Path


def keep(path: Path, raw: bytes) -> None:
    """Write a file beside its place, then move it there."""
    part = path.with_name(path.name + ".part")
    part.write_bytes(raw)
    part.replace(path)
