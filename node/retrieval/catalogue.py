"""What is registered, as entries to search: one for each name, from its publisher's card.

Knows: which card counts, what is believed, what a filter may ask. Must not know: how vectors are
compared, or where blocks come from.
"""

import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Final

from prsm.consensus.ledger.releases import Release
from prsm.consensus.ledger.view import View
from prsm.protocol.ed25519 import Verifier
from prsm.protocol.messages.cards import Card
from prsm.protocol.messages.models import ModelManifest
from prsm.storage.card import card_text, check_card, decode_card
from prsm.storage.manifest import check_publisher
from prsm.storage.vectors.interface import Condition, Label

NO_CARD: Final = ""


@dataclass(frozen=True, slots=True)
class Reading:
    """Where the catalogue reads, and whom it believes.

    Attributes:
        view: of the ledger.
        manifest: a manifest by its CID, of this node or of peers.
        block: a raw block by its CID, likewise, checked against it.
        chain_id: of this network.
        verifier: libsodium's rule.
    """

    view: View
    manifest: Callable[[bytes], Awaitable[ModelManifest]]
    block: Callable[[bytes], Awaitable[bytes]]
    chain_id: bytes
    verifier: Verifier


@dataclass(frozen=True, slots=True)
class Listing:
    """One name as it is searched: the text that is embedded, and what filters and people read."""

    release: Release
    text: str
    labels: Mapping[str, Label]


@dataclass(frozen=True, slots=True)
class Filters:
    """What a hit must be; None asks nothing. What a card does not say, it is not.

    Attributes:
        task: equal, such as `sentence-similarity`.
        licence: equal, as an SPDX expression.
        size_max: bytes.
        price_max: micro-FTNS a row.
        subject: `model` or `dataset`.
    """

    task: str | None = None
    licence: str | None = None
    size_max: int | None = None
    price_max: int | None = None
    subject: str | None = None

    def conditions(self) -> list[Condition]:
        """The same, for the store of vectors."""
        found = []
        if self.task is not None:
            found.append(Condition("task", "=", self.task))
        if self.licence is not None:
            found.append(Condition("licence", "=", self.licence))
        if self.subject is not None:
            found.append(Condition("subject", "=", self.subject))
        if self.size_max is not None:
            found.append(Condition("size", "<=", self.size_max))
        if self.price_max is not None:
            found.append(Condition("price", "<=", self.price_max))
        return found


def searchable(view: View) -> dict[bytes, Release]:
    """By manifest: what each name means now, but for what was halted."""
    return {
        release.manifest: release
        for release in view.first_choices()
        if not view.halted(release.manifest)
    }


async def card_cid_of(release: Release, reading: Reading) -> bytes | None:
    """CID of the card that counts: the ledger's, else the manifest's; None if there is none.

    Raises:
        ForeignManifest: the manifest is not its publisher's word.
        NotFound, SourceFailed: nobody has the manifest now.
    """
    if release.card is not None:
        return release.card
    return (await _manifest(release, reading)).card


async def read_listing(release: Release, reading: Reading) -> Listing:
    """Read and check what a search needs of a release.

    Raises:
        ForeignManifest: manifest or card are not the publisher's word.
        WireError: the block is no card.
        NotFound, SourceFailed: nobody has it now.
    """
    cid = await card_cid_of(release, reading)
    if cid is None:
        return _bare(release, await _manifest(release, reading))
    card = decode_card(await reading.block(cid))
    check_card(
        card,
        name=release.name,
        semver=release.semver,
        publisher=release.publisher,
        chain_id=reading.chain_id,
        verifier=reading.verifier,
    )
    return Listing(release, card_text(card), _labels(release, card, cid))


def stamp_of(release: Release) -> str:
    """What changes when a release must be read anew; kept as a label of its entry."""
    return (release.card or b"").hex() + ":" + release.semver


async def _manifest(release: Release, reading: Reading) -> ModelManifest:
    manifest = await reading.manifest(release.manifest)
    check_publisher(
        manifest,
        publisher=release.publisher,
        chain_id=reading.chain_id,
        verifier=reading.verifier,
    )
    return manifest


def _bare(release: Release, manifest: ModelManifest) -> Listing:
    """A release without a card is found by its name, and has no task and no price."""
    text = " ".join(re.split(r"[/._-]+", release.name))
    labels: dict[str, Label] = {
        **_common(release),
        "size": manifest.total_bytes,
        "licence": manifest.licence,
        "summary": "",
        "card": NO_CARD,
    }
    return Listing(release, text, labels)


def _labels(release: Release, card: Card, cid: bytes) -> dict[str, Label]:
    return {
        **_common(release),
        "size": release.total_bytes,
        "licence": card.licence,
        "summary": card.summary,
        "card": cid.hex(),
        "task": card.task,
        "price": card.price_per_row,
        "royalty": card.royalty_bps,
    }


def _common(release: Release) -> dict[str, Label]:
    return {
        "name": release.name,
        "semver": release.semver,
        "subject": release.subject,
        "stamp": stamp_of(release),
    }
