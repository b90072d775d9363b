"""Payloads of the registry beside RegisterModel: channels, yanks, datasets, cards.

Source: docs/spec/ledger.md, "Registry".
"""

from typing import Annotated, Final

import msgspec

from prsm.protocol.codec import Record
from prsm.protocol.ids import Bytes32, UInt
from prsm.protocol.messages.models import CidBytes, Name

CHANNELS_MAX: Final = 16  # of one name; the record is read and written whole
VERSIONS_MAX: Final = 1_024  # of one name: 33 KiB at most, proven whole; a busy name has a hundred
ChannelName = Annotated[str, msgspec.Meta(min_length=1, max_length=32)]
Semver = Annotated[str, msgspec.Meta(min_length=5, max_length=32)]


class SetChannel(Record, frozen=True):
    """The owner of a name lets a channel (`stable`, `beta`) point to a version, or to none."""

    name: Name
    channel: ChannelName
    semver: Semver | None


class Yank(Record, frozen=True):
    """The owner withdraws a version: still readable, never chosen anew; `lift` takes it back."""

    name: Name
    semver: Semver
    lift: bool
    reason: Annotated[str, msgspec.Meta(max_length=200)]


class RegisterDataset(Record, frozen=True):
    """Bind name and version to the manifest of a dataset; the sender is the publisher."""

    manifest: CidBytes
    name: Name
    semver: Semver
    sha256: Bytes32  # content identity: `Compute.pinned_sha256` of its manifest
    total_bytes: UInt
    rows: UInt
    price: UInt  # micro-FTNS asked for a copy
    parents: Annotated[tuple[CidBytes, ...], msgspec.Meta(max_length=16)]


class SetCard(Record, frozen=True):
    """The publisher says anew what a model or dataset is: its card's CID."""

    manifest: CidBytes
    card: CidBytes
