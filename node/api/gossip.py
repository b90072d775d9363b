"""Handlers of net_: announcements, and the report on their delivery.

Knows: the announcer. Must not know: transports.
"""

from prsm.node.api.readable import readable_record
from prsm.node.clock import utc_text
from prsm.node.net.delivery import Fate, Topic
from prsm.node.net.records import Store
from prsm.node.peers.announce import Announcement, Announcer
from prsm.node.rpc.dispatch import Handler
from prsm.node.rpc.methods import gossip as api
from prsm.node.rpc.spec import Caller, NoParams
from prsm.protocol.identity import peer_id_of
from prsm.protocol.messages.announce import BLOCKS, CAPACITY, MODELS, STATUS, STORAGE

TOPICS = {
    "capacity": CAPACITY,
    "models": MODELS,
    "status": STATUS,
    "blocks": BLOCKS,
    "storage": STORAGE,
}


class GossipApi:
    """Answers about announcements."""

    def __init__(self, announcer: Announcer) -> None:
        self._announcer = announcer

    def handlers(self) -> dict[str, Handler]:
        """Method name -> handler."""
        return {
            "net_getDelivery": self.delivery,
            "net_getAnnouncements": self.announcements,
        }

    async def delivery(self, _params: NoParams, _caller: Caller) -> api.Delivery:
        """What arrived, by topic and author."""
        announcer = self._announcer
        return api.Delivery(
            items=tuple(
                _topic(topic, name, announcer.store) for name, topic in announcer.delivery.items()
            ),
            wanted=announcer.wanted,
        )

    async def announcements(
        self, params: api.AnnouncementsParams, _caller: Caller
    ) -> api.Announcements:
        """What counts now."""
        topics = [TOPICS[params.topic]] if params.topic else list(TOPICS.values())
        found = [
            each
            for rules in topics
            for each in self._announcer.current(rules.name)
            if params.peer_id in {None, each.peer}
        ]
        return api.Announcements(
            items=tuple(_shown(each) for each in found[: params.limit]),
            more=len(found) > params.limit,
        )


def _shown(each: Announcement) -> api.AnnouncementInfo:
    content = readable_record(each.content)
    content.pop("signature", None)  # checked here; it says nothing to a person
    return api.AnnouncementInfo(
        topic=each.topic,
        peer_id=each.peer,
        key="0x" + each.key.hex(),
        made=utc_text(each.made_ms),
        expires=utc_text(each.expires_ms),
        content=content,
    )


def _topic(topic: Topic, name: str, store: Store) -> api.TopicDelivery:
    authors = topic.authors.values()
    latest = list(topic.authors.items())[-api.AUTHORS_LISTED_MAX :]
    return api.TopicDelivery(
        topic=name,
        published=topic.published,
        held=len(store.items(name)),
        pushed_out=store.pushed_out(name),
        seen=sum(author.seen for author in authors),
        repaired=sum(author.repaired for author in authors),
        late=sum(author.late for author in authors),
        missing=sum(author.missing for author in authors),
        stale=topic.fates[Fate.STALE],
        expired=topic.fates[Fate.EXPIRED],
        early=topic.fates[Fate.EARLY],
        crowded=topic.fates[Fate.CROWDED],
        unchecked=topic.fates[Fate.UNCHECKED],
        refused=topic.fates[Fate.REFUSED],
        p50_ms=topic.delay_ms(50),
        p99_ms=topic.delay_ms(99),
        authors=tuple(
            api.AuthorDelivery(
                peer_id=peer_id_of(key),
                seen=author.seen,
                repaired=author.repaired,
                late=author.late,
                missing=author.missing,
            )
            for key, author in reversed(latest)
        ),
    )
