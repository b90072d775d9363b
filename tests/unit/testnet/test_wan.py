"""Options and verdicts of what distance costs; the measurement itself is `prsm-testnet wan`."""

import pytest

from prsm.protocol.errors import LocalError
from prsm.testnet.wan import Document, Options, check_options, failures


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (Options(writes=0), "writes"),
        (Options(jobs=-1), "jobs"),
        (Options(delay_ms=2_001), "delay"),
        (Options(loss=0.5), "loss"),
    ],
)
def test_options_nothing_can_be_made_of_are_refused(options: Options, words: str) -> None:
    with pytest.raises(LocalError, match=words):
        check_options(options)


def test_job_that_failed_is_named() -> None:
    good: Document = {"loopback": {"job_states": ["done"]}, "wan": {"job_states": ["done"]}}
    assert failures(good) == []
    assert failures(good | {"wan": {"job_states": ["done", "failed"]}}) == [
        "wan: jobs ended as done, failed"
    ]
