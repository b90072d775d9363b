"""Payloads of evaluation: who is drawn to evaluate a model, and what came out.

Source: docs/spec/ledger.md, "Evaluations".
"""

from typing import Annotated

import msgspec

from prsm.protocol.codec import Record
from prsm.protocol.ids import Bytes32
from prsm.protocol.messages.models import CidBytes
from prsm.protocol.slices import ROWS_MAX, SLICES_MAX


class Draw(Record, frozen=True):
    """Ask for evaluators of a model on a dataset: drawn by the hash of the block this is in."""

    job: Bytes32  # the escrow that will pay them; chosen by the sender at random
    model: CidBytes
    dataset: CidBytes


class SliceScore(Record, frozen=True):
    """One slice: the root of the model's outputs, and how many rows were right."""

    outputs: Bytes32
    correct: Annotated[int, msgspec.Meta(ge=0, le=ROWS_MAX)]


class RecordScore(Record, frozen=True):
    """Say what a settled evaluation found; anyone may, the roots of its verdict decide."""

    job: Bytes32
    slices: Annotated[tuple[SliceScore, ...], msgspec.Meta(min_length=1, max_length=SLICES_MAX)]
