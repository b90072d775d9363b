"""Cards of models: read, believed or not, and replaced by their publisher.

Knows: which card counts, who signs. Must not know: what is written in one.
"""

from dataclasses import dataclass

from prsm.consensus.ledger.releases import Release
from prsm.node.models.fetching import Fetching
from prsm.node.models.records import Tools
from prsm.protocol.ed25519 import Ed25519Verifier
from prsm.protocol.messages.cards import Card
from prsm.protocol.messages.models import ModelManifest
from prsm.storage.card import check_card, decode_card
from prsm.storage.cid import decode_cid
from prsm.storage.errors import NotFound
from prsm.storage.manifest import check_publisher


@dataclass(frozen=True, slots=True)
class FoundCard:
    """A card, and whether its publisher is the one the ledger names."""

    card: Card
    is_checked: bool


class Cards:
    """Reads cards, and checks manifests that were found by name."""

    def __init__(self, tools: Tools, fetching: Fetching) -> None:
        self._tools = tools
        self._fetching = fetching
        self._verifier = Ed25519Verifier()

    def check(self, manifest: ModelManifest, release: Release) -> None:
        """Refuse a manifest that is not the word of whom the ledger names.

        Raises:
            ForeignManifest: unsigned, of another network or publisher, or forged.
        """
        check_publisher(
            manifest,
            publisher=release.publisher,
            chain_id=self._chain_id,
            verifier=self._verifier,
        )

    async def read(
        self, manifest: ModelManifest, release: Release | None, *, offline: bool = False
    ) -> FoundCard:
        """The card of a manifest; the ledger's takes the place of the manifest's.

        Raises:
            NotFound: it has none, or nobody has it.
            Offline: it is not here, and nobody may be asked.
            ForeignManifest: the card is not its publisher's word.
            WireError: the block is no card.
        """
        raw_cid = manifest.card
        if release is not None and release.card is not None:
            raw_cid = release.card
        called = f"{manifest.name}@{manifest.semver}"
        if raw_cid is None:
            raise NotFound(
                f"{called} has no card",
                hint="its publisher can give it one: prsm wallet submit SetCard",
            )
        card = decode_card(await self._fetching.block(decode_cid(raw_cid), offline=offline))
        if release is not None:
            check_card(
                card,
                name=release.name,
                semver=release.semver,
                publisher=release.publisher,
                chain_id=self._chain_id,
                verifier=self._verifier,
            )
        return FoundCard(card, is_checked=release is not None)

    @property
    def _chain_id(self) -> bytes:
        return self._tools.driver.ledger.genesis.chain_id
