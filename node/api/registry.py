"""Handlers of model_ of the registry: search, cards, versions, channels, withdrawn versions.

Knows: the ledger's names, cards, search, wallets. Must not know: transports.
"""

from prsm.node.api.datasets import DatasetsApi
from prsm.node.api.evaluations import score_infos
from prsm.node.api.intents import tx_text
from prsm.node.api.readable import readable_record
from prsm.node.chain.driver import Driver
from prsm.node.chain.outbox import Outbox
from prsm.node.models import Models
from prsm.node.models.naming import channel_key, subject_of
from prsm.node.retrieval.catalogue import Filters
from prsm.node.retrieval.search import CardSearch
from prsm.node.rpc.dispatch import Handler
from prsm.node.rpc.methods import registry as api
from prsm.node.rpc.spec import Caller
from prsm.protocol.ids import address_text
from prsm.protocol.transactions.payloads import SET_CHANNEL, YANK
from prsm.protocol.transactions.registry import SetChannel, Yank
from prsm.storage.cid import decode_cid
from prsm.storage.errors import NotFound


class RegistryApi:
    """Answers about registered names.

    Args:
        models: of this node.
        driver: of the ledger.
        outbox: for what is said of names of ours.
        search: over cards.
    """

    def __init__(self, models: Models, driver: Driver, outbox: Outbox, search: CardSearch) -> None:
        self._models = models
        self._driver = driver
        self._outbox = outbox
        self._search = search

    def handlers(self) -> dict[str, Handler]:
        """Method name -> handler."""
        return {
            "model_search": self.search,
            "model_getCard": self.card,
            "model_listVersions": self.versions,
            "model_yank": self.yank,
            "model_setChannel": self.channel,
            **DatasetsApi(self._models, self._driver).handlers(),
        }

    async def search(self, params: api.SearchParams, _caller: Caller) -> api.Found:
        """The nearest cards."""
        found = await self._search.search(
            params.query,
            filters=Filters(
                task=params.task,
                licence=params.licence,
                size_max=params.size_max,
                price_max=None if params.price_max is None else int(params.price_max),
                subject=params.subject,
            ),
            limit=params.limit,
        )
        return api.Found(
            registered=found.registered,
            indexed=found.indexed,
            unread=found.unread,
            backend=found.backend,
            items=tuple(
                api.FoundModel(
                    ref=f"{row.name}@{row.semver}",
                    score_millionths=round(row.score * 1_000_000),
                    subject=row.subject,
                    summary=row.summary,
                    task=row.task,
                    licence=row.licence,
                    size_bytes=row.size_bytes,
                    price_per_row=None if row.price_per_row is None else str(row.price_per_row),
                    cid=str(decode_cid(row.cid)),
                    scores=score_infos(self._driver.ledger.view, row.cid),
                )
                for row in found.rows
            ),
        )

    async def card(self, params: api.CardParams, _caller: Caller) -> api.CardInfo:
        """What its publisher says."""
        cid, found = await self._models.card(params.ref, offline=params.offline)
        return api.CardInfo(str(cid), found.is_checked, readable_record(found.card))

    async def versions(self, params: api.VersionsParams, _caller: Caller) -> api.Versions:
        """All versions of a name."""
        view = self._driver.ledger.view
        releases = view.releases(params.name)
        if not releases:
            raise NotFound(f"the ledger knows no {params.name!r}", hint="see: prsm model ls")
        channels = dict(view.channels(params.name))
        return api.Versions(
            name=params.name,
            items=tuple(
                api.Version(
                    semver=release.semver,
                    channels=tuple(
                        sorted(name for name, at in channels.items() if at == release.semver)
                    ),
                    yanked=(release.yanked or "withdrawn") if release.is_yanked else "",
                    subject=release.subject,
                    size_bytes=release.total_bytes,
                    publisher=address_text(release.publisher),
                    height=release.height,
                    cid=str(decode_cid(release.manifest)),
                )
                for release in releases
            ),
        )

    async def yank(self, params: api.YankParams, _caller: Caller) -> api.Sent:
        """Withdraw a version of ours."""
        payload = Yank(params.name, params.semver, params.lift, params.why)
        called = f"yank:{params.name}@{params.semver}"
        return await self._send(called, YANK, payload, params.key)

    async def channel(self, params: api.ChannelParams, _caller: Caller) -> api.Sent:
        """Point a channel of ours."""
        payload = SetChannel(params.name, params.channel, params.semver)
        called = channel_key(params.name, params.channel)
        return await self._send(called, SET_CHANNEL, payload, params.key)

    async def _send(self, called: str, kind: int, payload: Yank | SetChannel, key: str) -> api.Sent:
        sent = await self._outbox.place(
            *(called, kind, payload), subject=subject_of(payload.name), signer=key
        )
        return api.Sent(tx_text(sent), sent.queued)
