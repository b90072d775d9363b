"""Fetches between real processes: killed, beside faulty peers, while nodes die; minutes each."""

import pytest

from prsm.testnet.fetches import main

pytestmark = [pytest.mark.e2e, pytest.mark.long, pytest.mark.slow]


@pytest.mark.parametrize(
    "words",
    [
        ("cuts", "--size", str(1 << 28), "--kills", "3"),
        ("faults", "--size", str(1 << 28)),
        ("churn", "--operations", "1000", "--every", "10"),
    ],
    ids=lambda words: words[0],
)
def test_what_must_hold_holds(words: tuple[str, ...]) -> None:
    """The command says whether it did, and prints the figures."""
    assert main(words) == 0
