"""`override` for modules that a client loads before its first call.

Loading typing_extensions for a mark that does nothing takes 8 ms of processor time; Python 3.12 has
it in `typing`. Checkers of types see the real one. Must not know: what is marked.
"""

from typing import TYPE_CHECKING, TypeVar

__all__ = ["override"]

if TYPE_CHECKING:
    from typing_extensions import override
else:
    T = TypeVar("T")

    def override(method: T) -> T:
        """Mark an overriding method."""
        return method
