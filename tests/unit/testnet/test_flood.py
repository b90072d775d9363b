"""The judge of a flood: which documents are above a bar."""

import io

import pytest

from prsm.protocol.errors import LocalError
from prsm.testnet.flood import (
    BAN_SECONDS_MAX,
    GROWTH_BYTES_MAX,
    SLOWER_MAX,
    Options,
    failures,
    measure,
)
from prsm.testnet.report import Screen

GOOD: dict[str, object] = {
    "p99_times_quiet": SLOWER_MAX,
    "rss_growth_bytes": GROWTH_BYTES_MAX,
    "ban_seconds_max": {"gossip": BAN_SECONDS_MAX, "streams": 0.1},
    "deaths": 0,
    "restarts": 0,
    "not_banned": 0,
    "failed_writes": 0,
    "identities": 60,
}


def test_document_at_its_bars_is_good() -> None:
    assert failures(GOOD) == []


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"p99_times_quiet": SLOWER_MAX + 0.01}, "2.01 times"),
        ({"rss_growth_bytes": GROWTH_BYTES_MAX + 1}, "67108865 bytes"),
        ({"ban_seconds_max": {"gossip": 0.1, "topics": 5.5}}, "after 5.5 s"),
        ({"deaths": 1}, "1 deaths"),
        ({"restarts": 2}, "2 restarts"),
        ({"not_banned": 3}, "3 not_banned"),
        ({"failed_writes": 1}, "1 failed_writes"),
        ({"identities": 0}, "nobody flooded"),
    ],
)
def test_each_bar_is_looked_at(change: dict[str, object], why: str) -> None:
    (broken,) = failures({**GOOD, **change})
    assert why in broken


@pytest.mark.parametrize(
    "options", [Options(peers=0), Options(peers=101), Options(times=0), Options(seconds=60.0)]
)
def test_what_cannot_be_measured_is_refused(options: Options) -> None:
    with pytest.raises(LocalError, match="1 to"):
        measure(options, Screen(io.StringIO()))
