"""The specification prints the transition table and the limits that the code has."""

import re
from pathlib import Path

from prsm.consensus.pbft import config
from prsm.consensus.pbft.transitions import TRANSITIONS, Fact, Phase
from prsm.protocol.schedule import SEQUENCE_MAX, STICKY_HEIGHTS

SPEC = (Path(__file__).resolve().parents[4] / "docs" / "spec" / "pbft.md").read_text()


def test_specification_prints_the_transition_table() -> None:
    head = "| phase | " + " | ".join(fact.value for fact in Fact) + " |"
    rows = [head, "|---" * (len(Fact) + 1) + "|"]
    for phase in Phase:
        cells = [TRANSITIONS[phase].get(fact) for fact in Fact]
        rows.append(
            " | ".join([f"| {phase.value}", *(cell.value if cell else "" for cell in cells)])
        )
    printed = [re.sub(r"\s*\|\s*", "|", line) for line in SPEC.splitlines()]
    for row in rows:
        assert re.sub(r"\s*\|\s*", "|", row).rstrip("|") in {line.rstrip("|") for line in printed}


def test_specification_names_the_limits_of_the_code() -> None:
    assert f"{config.RESEND_FIRST_MS} ms after it last said something new" in SPEC
    assert f"at last every {config.RESEND_MS} ms" in SPEC
    assert f"more than {config.RESEND_SOON_BYTES_MAX:,} bytes not" in SPEC
    assert f"ahead is asked after {config.BEHIND_GRACE_MS} ms" in SPEC
    assert f"one range (≤ {config.FETCH_BLOCKS_MAX} blocks)" in SPEC
    assert (config.FETCH_RETRY_MS, config.BODIES_AHEAD_MAX) == (1_000, 2)
    assert (
        f"heights h + 1 … h + {config.HEIGHTS_AHEAD_MAX}, views ≤ {config.VIEWS_AHEAD_MAX}" in SPEC
    )
    assert f"v - {config.VIEWS_BEHIND_MAX} … v + {config.VIEWS_AHEAD_MAX}" in SPEC
    assert f"(h - h0)//{STICKY_HEIGHTS}" in SPEC
    assert f"cut at {SEQUENCE_MAX:,} entries" in SPEC
