"""What happens in a node, told to whoever listens: numbered by topic, kept for a while.

Knows: names of topics, rows as msgspec structs. Must not know: who tells, who listens, transports.

Invariants: telling never waits and never fails; a row is encoded once however many listen; a
topic's numbers have no gap; what is kept is bounded in rows and in bytes.
"""

import functools
from collections import deque
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Final

import msgspec

from prsm.node.telemetry import logs

log = logs.get("events")

KEPT_ROWS: Final = 1_000
KEPT_BYTES: Final = 4 * 1024 * 1024  # of one topic: rows of jobs may be long

Wanted = Callable[[msgspec.Struct], bool]


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened.

    Attributes:
        seq: its number in its topic, from 1 at each start of the node.
        kind: of the row; None in a note of `missed`.
        text: the row as JSON; only this is kept, for a job's objects are several times as large.
        missed: set in a note at the front of a replay: so many rows are no longer kept.
    """

    seq: int
    kind: type[msgspec.Struct] | None
    text: str
    missed: int = 0

    @property
    def row(self) -> msgspec.Struct | None:
        """What happened, read anew; None in a note of `missed`."""
        return None if self.kind is None else msgspec.json.decode(self.text, type=self.kind)


Take = Callable[[Event], None]  # must not wait


@dataclass(slots=True, eq=False)
class Listening:
    """One listener of one topic, until `stop`.

    Attributes:
        topic: what it hears.
        seq: number of the topic's last row when it began.
    """

    topic: str
    seq: int
    take: Take
    wanted: Wanted | None
    stop: Callable[[], None] = lambda: None


@dataclass(slots=True)
class _Topic:
    seq: int = 0
    size: int = 0
    kept: deque[Event] = field(default_factory=deque)
    listeners: dict[Listening, None] = field(default_factory=dict)

    def forget(self, listening: Listening) -> None:
        self.listeners.pop(listening, None)


class Events:
    """Tells rows to listeners.

    Args:
        topics: names; telling on another one is a bug of ours.
        kept: rows of a topic that can be told again.

    Attributes:
        dropped: listeners that were cut off because they did not keep up; counted by their owner.
    """

    def __init__(self, topics: Collection[str], *, kept: int = KEPT_ROWS) -> None:
        self._topics = {name: _Topic() for name in topics}
        self._kept = kept
        self._encoder = msgspec.json.Encoder()
        self.dropped = 0

    def publish(self, topic: str, row: msgspec.Struct) -> None:
        """Tell a row to all who listen now, and keep it; of the event loop's thread alone."""
        place = self._topics[topic]
        place.seq += 1
        event = Event(place.seq, type(row), self._encoder.encode(row).decode())
        place.kept.append(event)
        place.size += len(event.text)
        while len(place.kept) > self._kept or place.size > KEPT_BYTES:
            place.size -= len(place.kept.popleft().text)
        for listening in tuple(place.listeners):
            try:
                if listening.wanted is None or listening.wanted(row):
                    listening.take(event)
            except Exception:  # a fault of one listener must not reach who tells, nor the others
                listening.stop()  # before the line, which may be a row of a topic it hears
                log.exception("a listener failed", topic=topic)

    def listen(
        self,
        topic: str,
        take: Take,
        *,
        wanted: Wanted | None = None,
        resume_from: int | None = None,
    ) -> Listening:
        """Hear a topic from now on, or from a row that is past.

        Args:
            topic: its name.
            take: gets each event; must not wait.
            wanted: rows it is told; None: all.
            resume_from: number of the last row it has, 0 for none: what is kept of the later ones
                comes first, after a note of how many are not. A number above the topic's own is
                of an earlier run of the node: all that is kept comes.

        Raises:
            KeyError: no such topic.
        """
        place = self._topics[topic]
        listening = Listening(topic, place.seq, take, wanted)
        listening.stop = functools.partial(place.forget, listening)
        if resume_from is not None:
            _replay(place, listening, 0 if resume_from > place.seq else resume_from)
        place.listeners[listening] = None
        return listening

    def is_heard(self, topic: str) -> bool:
        """Does anybody listen? What is dear to make may be left out while nobody does."""
        return bool(self._topics[topic].listeners)

    def subscribers(self) -> Mapping[str, int]:
        """Topic -> listeners of now."""
        return {name: len(place.listeners) for name, place in self._topics.items()}

    def seq(self, topic: str) -> int:
        """Number of a topic's last row, 0 before the first."""
        return self._topics[topic].seq


def _replay(place: _Topic, listening: Listening, last: int) -> None:
    oldest = place.kept[0].seq if place.kept else place.seq + 1
    if oldest > last + 1:
        listening.take(Event(oldest - 1, None, "null", missed=oldest - 1 - last))
    for event in tuple(place.kept):
        if event.seq > last and (listening.wanted is None or _is_wanted(event, listening.wanted)):
            listening.take(event)


def _is_wanted(event: Event, wanted: Wanted) -> bool:
    row = event.row
    return row is not None and wanted(row)
