"""The version of this program, and the oldest client it serves."""

from typing import Final

VERSION: Final = "0.1.0"  # as in pyproject.toml; a test compares them
CLIENT_MIN: Final = "0.1.0"
