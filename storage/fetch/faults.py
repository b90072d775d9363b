"""Which sources failed a fetch, and what the whole of it comes to: never "not found" by silence.

Knows typed errors and names. Must not know how anybody was asked.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from prsm.protocol.errors import PrsmError
from prsm.storage.errors import NotFound, SourceCorrupt, SourceFailed, SourceSlow

FaultHandler = Callable[[str, PrsmError], None]  # name of the source; called at once
FAULTS_TOLD_CHARS_MAX = 1000


@dataclass(frozen=True, slots=True)
class Fault:
    """A source that was dropped, and why."""

    source: str
    error: PrsmError


@dataclass(slots=True)
class Faults:
    """The sources that failed in one fetch, each once.

    Attributes:
        handler: told of each at once, so that a corrupt peer can be banned.
        told: in order.
    """

    handler: FaultHandler | None = None
    told: list[Fault] = field(default_factory=list)

    def note(self, source: str, error: PrsmError) -> None:
        """A source failed."""
        if isinstance(error, SourceCorrupt) and not error.peer:
            error.peer = source
        if self.has(source):
            return
        self.told.append(Fault(source, error))
        if self.handler is not None:
            self.handler(source, error)

    def share(self, source: str, error: PrsmError) -> None:
        """It failed in another fetch, which was told of."""
        if not self.has(source):
            self.told.append(Fault(source, error))

    def has(self, source: str) -> bool:
        """Whether it failed already."""
        return any(fault.source == source for fault in self.told)

    def is_final(self, source: str) -> bool:
        """Whether it failed in a way that a new connection does not mend."""
        return any(f.source == source and isinstance(f.error, SourceCorrupt) for f in self.told)

    def forgive(self, source: str) -> None:
        """It is back: it may be asked, and fail, again."""
        self.told = [fault for fault in self.told if fault.source != source]


def verdict(what: str, faults: Sequence[Fault]) -> PrsmError:
    """Say why something did not come.

    Args:
        what: was wanted, with what is here of it.
        faults: of all who were asked; none: each said that it does not hold it.
    """
    if not faults:
        return NotFound(
            f"{what}: no source holds the rest",
            hint="connect to a node that has it: prsm net peers",
        )
    told = "; ".join(f"{fault.source}: {fault.error.what}" for fault in faults)
    told = told[:FAULTS_TOLD_CHARS_MAX]
    hint = "try again: what is verified stays and is not fetched twice"
    for fault in faults:
        if isinstance(fault.error, SourceSlow):
            return SourceSlow(f"{what}; {told}", hint=hint)
    for fault in faults:
        if isinstance(fault.error, SourceCorrupt):
            return SourceCorrupt(f"{what}; {told}", hint=hint, peer=fault.source, penalty=0)
    return SourceFailed(f"{what}; {told}", hint=hint)
