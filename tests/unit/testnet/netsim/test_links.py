"""Simulated links: what is lost, what is late."""

from random import Random

from prsm.testnet.netsim.clock import Wheel
from prsm.testnet.netsim.links import REGION_DELAY_MS, REGIONS, Links
from prsm.testnet.netsim.plan import Plan


def _links(plan: Plan) -> tuple[Links, Wheel]:
    wheel = Wheel()
    links = Links(plan, Random(1), wheel)
    for _ in range(8):
        links.place()
    return links, wheel


def test_regions_are_as_far_from_each_other_both_ways() -> None:
    for a in range(len(REGIONS)):
        for b in range(len(REGIONS)):
            assert REGION_DELAY_MS[a][b] == REGION_DELAY_MS[b][a]


def test_lost_messages_are_lost_for_good_and_those_of_streams_are_late() -> None:
    links, wheel = _links(Plan(loss=300, delay_ms=(10, 0), handling_ms=0))
    sent: list[int] = []
    streamed: list[int] = []
    for number in range(1_000):
        links.send(lambda _to, _by, what: sent.append(int(str(what))), 0, 1, number)
        links.stream(lambda _to, _by, _: streamed.append(wheel.now_ms), 0, 1, number)
    wheel.run(100_000)
    assert 650 < len(sent) < 750
    assert links.lost == 1_000 - len(sent)
    assert len(streamed) == 1_000
    assert streamed[0] == 10
    assert streamed[-1] > 400  # twice and more lost


def test_delay_is_by_region_when_no_other_is_given() -> None:
    links, _ = _links(Plan())
    delays = [links.delay_ms(0, other) for other in range(1, 8) for _ in range(5)]
    assert min(delays) >= 8
    assert max(delays) < 250
    assert len(set(delays)) > 5
