"""A table of numbers and record classes: which class a number on the wire means.

Numbers are never used again for another class; `tests/vectors` pins each one.
"""

from typing import Generic, TypeVar

from prsm.protocol.codec import Record, decode
from prsm.protocol.errors import WireError

R = TypeVar("R", bound=Record)


class Registry(Generic[R]):
    """Number -> class and back, without duplicates."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._classes: dict[int, type[R]] = {}
        self._numbers: dict[type[R], int] = {}

    def add(self, number: int, cls: type[R]) -> None:
        """Register a class once."""
        assert number not in self._classes, f"{self._what} {number} is taken"
        assert cls not in self._numbers, f"{cls.__name__} has a number"
        self._classes[number] = cls
        self._numbers[cls] = number

    def number(self, cls: type[R]) -> int:
        """The number of a registered class."""
        return self._numbers[cls]

    def items(self) -> list[tuple[int, type[R]]]:
        """All pairs in the order of their numbers."""
        return sorted(self._classes.items())

    def decode(self, number: int, raw: bytes, *, size_max: int) -> R:
        """Read canonical bytes as the class of `number`.

        Raises:
            WireError: no such number, or bytes that do not fit the class.
        """
        cls = self._classes.get(number)
        if cls is None:
            raise WireError(f"{self._what} {number} is unknown to this version")
        return decode(raw, cls, size_max=size_max)
