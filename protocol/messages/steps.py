"""Generation on the worker pipe: steps of a session whose cache stays in the child, and speech.

Part of the table of `pipe`. Source: docs/spec/work.md, "Generation".
"""

from typing import Annotated, Final

import msgspec

from prsm.protocol.codec import Record
from prsm.protocol.errors import LocalError
from prsm.protocol.generating import Sampling, StepSizes
from prsm.protocol.ids import U32, UInt
from prsm.protocol.tensors import TensorHead


class PositionMismatch(LocalError):
    """A step of a generating session starts elsewhere than its cache ends; the text says where."""

    reason = "position_mismatch"


class QuotaFull(LocalError):
    """The cache of a generating session would pass the bytes it may have."""

    reason = "quota_full"


class Step(Record, frozen=True):
    """Call: run a generating shard on the tensor in the tail, one step after the other.

    A session begins with a step at position 0. Its cache stays in the child.
    """

    session: UInt
    start_position: U32
    sizes: StepSizes  # positions of each step
    quota_bytes: UInt  # of this session's cache
    sampling: Sampling | None  # needed by the last stage alone
    tensor: TensorHead


class Stepped(Record, frozen=True):
    """Answer to `Step`: the cut tensor of all positions, or of each step the token it chose."""

    position: U32  # held now
    tensor: TensorHead
    cpu_us: UInt
    rss_bytes: UInt


class Drop(Record, frozen=True):
    """Call: forget a generating session."""

    session: UInt


class Dropped(Record, frozen=True):
    """Answer to `Drop`."""


class Spell(Record, frozen=True):
    """Call: the tokens of the UTF-8 text in the tail, none added, none cut."""


class Spelt(Record, frozen=True):
    """Answer to `Spell`: int64 tokens in the tail."""

    ends: Annotated[tuple[U32, ...], msgspec.Meta(max_length=16)]  # tokens that end an answer


class Say(Record, frozen=True):
    """Call: the text that the int64 tokens in the tail add to those before them."""

    is_last: bool  # what waits for its last bytes is given as it is


class Said(Record, frozen=True):
    """Answer to `Say`: UTF-8 in the tail, whole characters only."""


KINDS: Final[dict[int, type[Record]]] = {
    107: Spell,
    108: Spelt,
    109: Say,
    115: Step,
    116: Stepped,
    117: Drop,
    118: Dropped,
    119: Said,
}
