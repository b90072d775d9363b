"""A network added up from views: ends, one-sided links, hostile views."""

from prsm.node.net.links import SAMPLES_MAX, End, LinkOf, RoundTrips, cleaned, links_of
from prsm.protocol.ids import PeerId
from prsm.protocol.messages.reach import LinkSeen, ViewTold

A, B, C = PeerId("a"), PeerId("b"), PeerId("c")


def seen(peer: str, *, outbound: bool = True, relayed: bool = False, rtt_ms: int = 3) -> LinkSeen:
    return LinkSeen(peer=peer, outbound=outbound, relayed=relayed, rtt_ms=rtt_ms, samples=1)


def view(*links: LinkSeen) -> ViewTold:
    return ViewTold(region="", age_ms=0, links=links)


def test_link_has_both_ends() -> None:
    views = {A: view(seen("b", rtt_ms=3)), B: view(seen("a", outbound=False, rtt_ms=4))}
    one = End(dialled=True, relayed=False, rtt_ms=3)
    other = End(dialled=False, relayed=False, rtt_ms=4)
    assert links_of(views) == (LinkOf(A, B, one, other, is_one_sided=False),)


def test_link_only_one_of_two_heard_nodes_names_is_one_sided() -> None:
    [link] = links_of({A: view(), B: view(seen("a"))})
    assert (link.seen_by_one, link.is_one_sided) == (None, True)


def test_link_to_a_silent_node_is_not_called_one_sided() -> None:
    [link] = links_of({A: view(seen("c", relayed=True))})
    assert (link.one, link.other, link.is_one_sided) == (A, C, False)
    assert link.seen_by_one
    assert link.seen_by_one.relayed


def test_view_is_cleaned_of_itself_and_of_doubles() -> None:
    told = view(seen("a"), seen("b", rtt_ms=1), seen("b", rtt_ms=9))
    assert cleaned(told, A).links == (seen("b", rtt_ms=1),)


def test_round_trips_are_medians_of_the_last_samples() -> None:
    trips = RoundTrips()
    assert trips.median(A) == (0, 0)
    for rtt_ms in (*[1000] * 50, *[2] * SAMPLES_MAX, 1):
        trips.note(A, rtt_ms)
    assert trips.median(A) == (2, SAMPLES_MAX)
    trips.note(B, 5)
    trips.keep([B])
    assert (trips.median(A), trips.median(B)) == ((0, 0), (5, 1))
