"""Cards: what a publisher says about a model or a dataset, for people and for search.

Source: docs/spec/storage.md, "Manifest and card". Everything is bounded, and nothing is a float:
a figure is a whole number of millionths.
"""

from typing import Annotated, Final, Literal

import msgspec

from prsm.protocol.codec import Record
from prsm.protocol.ids import Bytes32, ChainId, Signature, UInt
from prsm.protocol.limits import CARD_TEXT_MAX, INT_MAX, TENSORS_PER_MESSAGE_MAX
from prsm.protocol.messages.models import CidBytes, Name, TensorSpec

TAGS_MAX: Final = 16
METRICS_MAX: Final = 64

Subject = Literal["model", "dataset"]
Relation = Literal[
    "fine-tune", "adapter", "quantised", "distilled", "merge", "trained-on", "subset", "other"
]
Word = Annotated[str, msgspec.Meta(pattern=r"\A[a-z0-9][a-z0-9.-]{0,31}\Z")]  # tag, task, metric
_Specs = Annotated[tuple[TensorSpec, ...], msgspec.Meta(max_length=TENSORS_PER_MESSAGE_MAX)]


class Parent(Record, frozen=True):
    """Where it comes from: a registered manifest, and how it was made of it."""

    manifest: CidBytes
    relation: Relation


class DataRef(Record, frozen=True):
    """What it was trained on: a registered dataset, or a name of something outside."""

    manifest: CidBytes | None
    text: Annotated[str, msgspec.Meta(min_length=1, max_length=200)]


class Metric(Record, frozen=True):
    """A figure its publisher claims, and what it was measured on."""

    name: Word
    millionths: Annotated[int, msgspec.Meta(ge=-INT_MAX, le=INT_MAX)]
    dataset: CidBytes | None


class Card(Record, frozen=True):
    """What one version is; signed over `prsm1cd` and everything before the signature."""

    version: Annotated[int, msgspec.Meta(ge=1, le=1)]
    subject: Subject
    name: Name
    semver: Annotated[str, msgspec.Meta(min_length=5, max_length=32)]
    summary: Annotated[str, msgspec.Meta(min_length=1, max_length=280)]
    text: Annotated[str, msgspec.Meta(max_length=CARD_TEXT_MAX)]
    task: Word  # "sentence-similarity"
    tags: Annotated[tuple[Word, ...], msgspec.Meta(max_length=TAGS_MAX)]  # ascending
    inputs: _Specs  # of the whole graph; none for a dataset
    outputs: _Specs
    licence: Annotated[str, msgspec.Meta(min_length=1, max_length=64)]  # SPDX expression
    parents: Annotated[tuple[Parent, ...], msgspec.Meta(max_length=16)]
    royalty_bps: Annotated[int, msgspec.Meta(ge=0, le=10_000)]  # of what users pay for its work
    price_per_row: UInt  # micro-FTNS its publisher expects; a dataset: for a copy
    size_bytes: UInt
    training: Annotated[tuple[DataRef, ...], msgspec.Meta(max_length=16)]
    metrics: Annotated[tuple[Metric, ...], msgspec.Meta(max_length=METRICS_MAX)]
    created_ms: UInt
    publisher: Bytes32
    chain_id: ChainId
    signature: Signature | None
