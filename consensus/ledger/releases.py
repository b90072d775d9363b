"""What the registry holds of a name: versions, channels, yanks, cards; and how a wish is met.

Reads only, each key by itself: a stranger who has a proof of each resolves as a node does. Knows:
records and keys of the registry beside `Model`, and SemVer's order. Must not know: the rules that
write them (`registry`). Source: docs/spec/ledger.md, "Registry".
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Annotated, Final, Literal

import msgspec

from prsm.consensus.ledger.records import Model, Owner, Pointer, model_key, owner_key, version_key
from prsm.consensus.ledger.state import Reader, read
from prsm.protocol.codec import Record, encode
from prsm.protocol.errors import LocalError
from prsm.protocol.ids import Bytes32, UInt
from prsm.protocol.messages.models import CidBytes, Name
from prsm.protocol.semver import Reference, Version
from prsm.protocol.transactions.registry import (
    CHANNELS_MAX,
    VERSIONS_MAX,
    ChannelName,
    Semver,
)

STABLE: Final = "stable"  # what a bare name means, if its owner keeps such a channel
CHANNEL, YANKED, DATASET, CARD, VERSIONS = (bytes([letter]) for letter in b"lysiL")

Subject = Literal["model", "dataset"]


class UnknownRelease(LocalError):
    """The ledger knows no such name, no such version, or no version that meets the wish."""

    reason = "model_not_found"


class YankedRelease(LocalError):
    """A channel points to a version that was withdrawn."""

    reason = "yanked"


class Versions(Record, frozen=True):
    """All versions of a name as they were registered: who reads it has missed none."""

    name: Name
    semvers: Annotated[tuple[Semver, ...], msgspec.Meta(max_length=VERSIONS_MAX)]


class Channels(Record, frozen=True):
    """Channels of a name and the versions they point to, ascending by channel."""

    name: Name
    entries: Annotated[
        tuple[tuple[ChannelName, Semver], ...], msgspec.Meta(max_length=CHANNELS_MAX)
    ]


class Yanked(Record, frozen=True):
    """A version that nobody chooses anew."""

    reason: Annotated[str, msgspec.Meta(max_length=200)]
    height: UInt


class Dataset(Record, frozen=True):
    """A registered dataset."""

    manifest: CidBytes
    name: Name
    semver: Semver
    publisher: Bytes32
    sha256: Bytes32
    total_bytes: UInt
    rows: UInt
    price: UInt
    parents: tuple[CidBytes, ...]
    height: UInt


class CardPointer(Record, frozen=True):
    """The card that takes the place of the one in the manifest."""

    card: CidBytes
    height: UInt


@dataclass(frozen=True, slots=True)
class Release:
    """One version of a name, as the ledger has it."""

    name: str
    semver: str
    manifest: bytes
    subject: Subject
    publisher: bytes
    total_bytes: int
    height: int
    yanked: str | None  # why it was withdrawn, None if it was not
    card: bytes | None  # the ledger's card; None: the manifest's counts

    @property
    def is_yanked(self) -> bool:
        """Was it withdrawn?"""
        return self.yanked is not None


def versions_key(name: str) -> bytes:
    """Key of a `Versions`."""
    return VERSIONS + encode(name)


def channels_key(name: str) -> bytes:
    """Key of a `Channels`."""
    return CHANNEL + encode(name)


def yanked_key(name: str, semver: str) -> bytes:
    """Key of a `Yanked`."""
    return YANKED + encode((name, semver))


def dataset_key(manifest: bytes) -> bytes:
    """Key of a `Dataset`."""
    return DATASET + manifest


def card_key(manifest: bytes) -> bytes:
    """Key of a `CardPointer`."""
    return CARD + manifest


def is_registered(reader: Reader, manifest: bytes) -> bool:
    """Does the ledger name this manifest, as a model or as a dataset?"""
    return reader.get(model_key(manifest)) is not None or (
        reader.get(dataset_key(manifest)) is not None
    )


def owner_of(reader: Reader, name: str) -> bytes | None:
    """Who may add to a name; None for a name nobody has."""
    owner = read(reader, owner_key(name), Owner)
    return None if owner is None else owner.publisher


def versions_of(reader: Reader, name: str) -> tuple[str, ...]:
    """Texts of all versions of a name, in the order of their registration."""
    found = read(reader, versions_key(name), Versions)
    return () if found is None else found.semvers


def channels_of(reader: Reader, name: str) -> dict[str, str]:
    """Versions by channel."""
    found = read(reader, channels_key(name), Channels)
    return {} if found is None else dict(found.entries)


def release_of(reader: Reader, manifest: bytes) -> Release | None:
    """The version that a manifest is, None for one that is not registered."""
    model = read(reader, model_key(manifest), Model)
    found = read(reader, dataset_key(manifest), Dataset) if model is None else model
    if found is None:
        return None
    yanked = read(reader, yanked_key(found.name, found.semver), Yanked)
    card = read(reader, card_key(manifest), CardPointer)
    return Release(
        name=found.name,
        semver=found.semver,
        manifest=found.manifest,
        subject="model" if isinstance(found, Model) else "dataset",
        publisher=found.publisher,
        total_bytes=found.total_bytes,
        height=found.height,
        yanked=None if yanked is None else yanked.reason,
        card=None if card is None else card.card,
    )


def lookup(reader: Reader, name: str, semver: str) -> Release | None:
    """The release of an exact version, None if there is none."""
    pointer = read(reader, version_key(name, semver), Pointer)
    return None if pointer is None else release_of(reader, pointer.manifest)


def in_order(semvers: Iterable[str]) -> list[str]:
    """Versions ascending by SemVer, equal ones by their text."""
    return sorted(semvers, key=lambda semver: (Version.parse(semver), semver))


def resolve(reader: Reader, reference: Reference) -> Release:
    """The release that a reference means.

    An exact version is found although it was yanked. A channel is where its owner pointed it. A
    range means the newest version in it that was not yanked, a bare name the channel `stable` if
    there is one, else the newest release, else the newest pre-release.

    Args:
        reader: a state, or proven entries of one.
        reference: what was typed.

    Raises:
        UnknownRelease: nothing meets it; the text says what there is.
        YankedRelease: the channel points to a version that was withdrawn.
    """
    name = reference.name
    if reference.exact is not None:
        return _exact(reader, name, reference.exact)
    if reference.range is None:
        channels = channels_of(reader, name)
        if reference.channel is not None or STABLE in channels:
            return _pointed(reader, name, reference.channel or STABLE, channels)
    semver = next(_candidates(reader, reference), None)
    if semver is None:
        raise _unknown(reader, name, f"no version on the ledger meets {reference}")
    return _exact(reader, name, semver)


def _candidates(reader: Reader, reference: Reference) -> Iterator[str]:
    """Versions a range or a bare name may mean, the best first."""
    wanted = reference.range
    semvers = reversed(in_order(versions_of(reader, reference.name)))
    found = [(Version.parse(semver), semver) for semver in semvers]
    if wanted is None:
        found.sort(key=lambda one: one[0].is_prerelease)
    else:
        found = [one for one in found if wanted.holds(one[0])]
    return (semver for _, semver in found if not _is_yanked(reader, reference.name, semver))


def _is_yanked(reader: Reader, name: str, semver: str) -> bool:
    return reader.get(yanked_key(name, semver)) is not None


def _exact(reader: Reader, name: str, semver: str) -> Release:
    release = lookup(reader, name, semver)
    if release is None:
        raise _unknown(reader, name, f"{name}@{semver} is not on the ledger")
    return release


def _pointed(reader: Reader, name: str, channel: str, channels: dict[str, str]) -> Release:
    semver = channels.get(channel)
    if semver is None:
        known = ", ".join(sorted(channels)) or "none"
        raise _unknown(reader, name, f"{name} has no channel {channel!r}; it has: {known}")
    release = _exact(reader, name, semver)
    if release.is_yanked:
        raise YankedRelease(
            f"channel {channel} of {name} points to {semver}, which was yanked: "
            f"{release.yanked or 'no reason given'}",
            hint=f"name another version, or that one exactly: {name}@{semver}",
        )
    return release


def _unknown(reader: Reader, name: str, what: str) -> UnknownRelease:
    semvers = in_order(versions_of(reader, name))
    if not semvers:
        return UnknownRelease(f"the ledger knows no {name!r}", hint="see: prsm model search WORDS")
    offered = [each for each in reversed(semvers) if not _is_yanked(reader, name, each)][:5]
    hint = (
        f"there are: {', '.join(reversed(offered))}"
        if offered
        else "every version of it was yanked"
    )
    return UnknownRelease(what, hint=hint)
