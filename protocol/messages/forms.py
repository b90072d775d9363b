"""The worker pipe's records about weights: smaller forms of a model, and adapters beside one.

Part of `pipe`, in a file of its own. Figures are whole millionths: nothing on a wire is a float.
"""

from enum import IntEnum
from typing import Annotated, Final

import msgspec

from prsm.protocol.codec import Record
from prsm.protocol.ids import Bytes32, UInt
from prsm.protocol.limits import MIB

FIGURES_MAX: Final = 16
ADAPTER_BYTES_MAX: Final = 64 * MIB  # rank 64 beside every product of a network of 400 MB
_Millionths = Annotated[int, msgspec.Meta(ge=-(2**53), le=2**53)]


class Form(IntEnum):
    """How weights are stored or computed with, other than fp32."""

    INT8 = 1  # dynamic: products in integers, the scale of activations over the whole batch
    W8 = 2  # weights in blocks of 32, 8 bits each
    W4 = 3  # weights in blocks of 32, 4 bits each
    FP16 = 4  # stored in 16 bits, cast to fp32 when it is loaded


class Samples(IntEnum):
    """What two forms of a network are compared on."""

    MADE_UP = 1
    TEXTS = 2  # UTF-8; a line is a row of an encoder, all of it a decoder's text
    SLICES = 3  # a labelled dataset


class Compress(Record, frozen=True):
    """Call: make a model smaller, and measure both; `FilePart`s of it come first if wanted."""

    form: Form
    samples: Samples
    has_tokenizer: bool
    is_wanted: bool
    is_measured: bool


class Figure(Record, frozen=True):
    """A property of both forms, in millionths."""

    name: Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
    base: _Millionths
    found: _Millionths


class Compressed(Record, frozen=True):
    """Answer to `Compress`: sizes of the files, processor time of a batch and of a row, figures."""

    form: Form
    base_bytes: UInt
    found_bytes: UInt
    sha256: Bytes32
    base_cpu_us: UInt
    found_cpu_us: UInt
    base_row_cpu_us: UInt
    found_row_cpu_us: UInt
    rows_touch: bool
    figures: Annotated[tuple[Figure, ...], msgspec.Meta(max_length=FIGURES_MAX)]


class Adapt(Record, frozen=True):
    """Call on a loaded shard: run with this adapter from now on; its bytes are the tail."""


class Adapted(Record, frozen=True):
    """Answer to `Adapt`."""

    sha256: Bytes32
    sites: UInt  # products of this shard that it changes
    output_root: Bytes32  # of the golden rows as computed with it


class MakeAdaptable(Record, frozen=True):
    """Call: give a model inputs for an adapter; its `FilePart`s come first."""


class MadeAdaptable(Record, frozen=True):
    """Answer to `MakeAdaptable`: for each product its name, rows and columns of its weight."""

    sites: Annotated[
        tuple[tuple[Annotated[str, msgspec.Meta(max_length=256)], UInt, UInt], ...],
        msgspec.Meta(min_length=1, max_length=4096),
    ]


KINDS: Final[dict[int, type[Record]]] = {
    123: Compress,
    124: Compressed,
    125: Adapt,
    126: Adapted,
    127: MakeAdaptable,
    128: MadeAdaptable,
}
