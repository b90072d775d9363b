"""What the registry holds of a name: versions, channels, yanks, cards; and how a wish is met.

Reads only. Knows: records and keys of the registry beside `Model`, and SemVer's order. Must not
know: the rules that write them (`registry`). Source: docs/spec/ledger.md, "Registry".
"""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Annotated, Final, Literal

import msgspec

from prsm.consensus.ledger.records import Model, Owner, Pointer, model_key, owner_key, version_key
from prsm.consensus.ledger.state import Reader, read
from prsm.protocol.codec import Record, encode
from prsm.protocol.errors import LocalError
from prsm.protocol.ids import Bytes32, UInt
from prsm.protocol.messages.models import CidBytes, Name
from prsm.protocol.semver import Reference, Version, is_version
from prsm.protocol.transactions.registry import CHANNELS_MAX, ChannelName, Semver

STABLE: Final = "stable"  # what a bare name means, if its owner keeps such a channel
CHANNEL, YANKED, DATASET, CARD = (bytes([letter]) for letter in b"lysi")

Subject = Literal["model", "dataset"]


class UnknownRelease(LocalError):
    """The ledger knows no such name, no such version, or no version that meets the wish."""

    reason = "model_not_found"


class YankedRelease(LocalError):
    """A channel points to a version that was withdrawn."""

    reason = "yanked"


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

    @property
    def version(self) -> Version | None:
        """Its place in the order; None for a text that is no SemVer."""
        return Version.parse(self.semver) if is_version(self.semver) else None


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


def versions_prefix(name: str) -> bytes:
    """How the keys of all versions of a name, and of no other, begin."""
    whole = version_key(name, "")
    return whole[: len(whole) - len(encode(""))]


def is_registered(reader: Reader, manifest: bytes) -> bool:
    """Does the ledger name this manifest, as a model or as a dataset?"""
    return reader.get(model_key(manifest)) is not None or (
        reader.get(dataset_key(manifest)) is not None
    )


def owner_of(reader: Reader, name: str) -> bytes | None:
    """Who may add to a name; None for a name nobody has."""
    owner = read(reader, owner_key(name), Owner)
    return None if owner is None else owner.publisher


def channels_of(reader: Reader, name: str) -> dict[str, str]:
    """Versions by channel."""
    found = read(reader, channels_key(name), Channels)
    return {} if found is None else dict(found.entries)


def release_of(reader: Reader, manifest: bytes) -> Release | None:
    """The version that a manifest is, None for one that is not registered.

    Args:
        reader: a whole state, or the entries of `manifest_keys`, each proven.
        manifest: its CID.
    """
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
    """The release of an exact version, None if there is none.

    Two rounds of proofs suffice for a stranger: the pointer, then what `manifest_keys` names.
    """
    pointer = read(reader, version_key(name, semver), Pointer)
    return None if pointer is None else release_of(reader, pointer.manifest)


def manifest_keys(name: str, semver: str, manifest: bytes) -> tuple[bytes, ...]:
    """Keys that `lookup` reads once the pointer is known, and the pointer's own first."""
    return (
        version_key(name, semver),
        model_key(manifest),
        dataset_key(manifest),
        yanked_key(name, semver),
        card_key(manifest),
    )


def in_order(releases: Iterable[Release]) -> list[Release]:
    """Releases ascending by SemVer, equal ones by their text, texts that are no SemVer first."""
    return sorted(releases, key=_place)


def choose(
    reference: Reference, releases: Sequence[Release], channels: Mapping[str, str]
) -> Release:
    """The release that a reference means.

    An exact version is found although it was yanked. A channel is where its owner pointed it. A
    range means the newest version in it that was not yanked, a bare name the channel `stable` if
    there is one, else the newest release, else the newest pre-release.

    Args:
        reference: what was typed.
        releases: all of that name, in any order.
        channels: of that name.

    Raises:
        UnknownRelease: nothing meets it; the text says what there is.
        YankedRelease: the channel points to a version that was withdrawn.
    """
    if not releases:
        raise UnknownRelease(
            f"the ledger knows no {reference.name!r}", hint="see: prsm model search WORDS"
        )
    if reference.exact is not None:
        return _exact(reference, reference.exact, releases)
    if reference.channel is not None or (reference.range is None and STABLE in channels):
        return _pointed(reference, reference.channel or STABLE, releases, channels)
    return _newest(reference, releases)


def first_choices(reader: Reader, manifests: Iterable[bytes]) -> list[Release]:
    """What each name means when it stands alone, by name; names without such a release are out.

    Args:
        reader: the whole state.
        manifests: CIDs of all that is registered.
    """
    by_name: dict[str, list[Release]] = {}
    for manifest in manifests:
        if (release := release_of(reader, manifest)) is not None:
            by_name.setdefault(release.name, []).append(release)
    chosen = []
    for name, releases in sorted(by_name.items()):
        with suppress(UnknownRelease, YankedRelease):
            chosen.append(choose(Reference(name), releases, channels_of(reader, name)))
    return chosen


def _place(release: Release) -> tuple[bool, Version, str]:
    version = release.version
    return (version is not None, version or Version(0, 0, 0), release.semver)


def _exact(reference: Reference, semver: str, releases: Sequence[Release]) -> Release:
    for release in releases:
        if release.semver == semver:
            return release
    raise UnknownRelease(f"{reference} is not on the ledger", hint=_offer(releases))


def _pointed(
    reference: Reference, channel: str, releases: Sequence[Release], channels: Mapping[str, str]
) -> Release:
    semver = channels.get(channel)
    if semver is None:
        known = ", ".join(sorted(channels)) or "none"
        raise UnknownRelease(
            f"{reference.name} has no channel {channel!r}; it has: {known}",
            hint=_offer(releases),
        )
    release = _exact(Reference(reference.name, exact=semver), semver, releases)
    if release.is_yanked:
        raise YankedRelease(
            f"channel {channel} of {reference.name} points to {semver}, which was yanked: "
            f"{release.yanked or 'no reason given'}",
            hint=f"name another version, or that one exactly: {reference.name}@{semver}",
        )
    return release


def _newest(reference: Reference, releases: Sequence[Release]) -> Release:
    wanted = reference.range
    usable = [each for each in in_order(releases) if each.version and not each.is_yanked]
    if wanted is not None:
        usable = [each for each in usable if each.version and wanted.holds(each.version)]
    whole = [each for each in usable if each.version and not each.version.is_prerelease]
    found = (whole if wanted is None and whole else usable)[-1:]
    if not found:
        raise UnknownRelease(f"no version on the ledger meets {reference}", hint=_offer(releases))
    return found[0]


def _offer(releases: Sequence[Release]) -> str:
    texts = [each.semver for each in in_order(releases) if not each.is_yanked][-5:]
    return f"there are: {', '.join(texts)}" if texts else "every version of it was yanked"
