"""Strict nodes work for others inside every layer, or not at all."""

import logging

import pytest

from prsm.node.inference.interface import JobFacts
from prsm.node.inference.strict import SandboxPolicy
from prsm.protocol.receipts import WorkKind

FACTS = JobFacts(
    job=bytes(32), tenant=b"", requester=bytes(32), kind=WorkKind.INFER, model=b"", rows=1
)


def test_strict_allows_when_all_layers_are_there() -> None:
    policy = SandboxPolicy(lambda: ("rlimits", "landlock 7", "seccomp"))
    assert policy.before(FACTS) == ""
    policy.after(FACTS, "done")


@pytest.mark.parametrize(
    ("layers", "missing"),
    [
        ((), "rlimits, landlock, seccomp"),
        (("rlimits", "seccomp"), "landlock"),
        (("rlimits", "landlock 7"), "seccomp"),
    ],
)
def test_strict_names_what_is_missing(layers: tuple[str, ...], missing: str) -> None:
    assert SandboxPolicy(lambda: layers).before(FACTS).endswith(f"lacks {missing}")


def test_strict_asks_anew_each_time() -> None:
    """The worker program may come back on a kernel, or after a restart, with other layers."""
    layers = ["rlimits"]
    policy = SandboxPolicy(lambda: layers)
    assert policy.before(FACTS)
    layers += ["landlock 1", "seccomp"]
    assert not policy.before(FACTS)


def test_lenient_works_in_what_the_kernel_has_and_warns_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    policy = SandboxPolicy(lambda: ("rlimits", "landlock 4"), is_lenient=True)
    with caplog.at_level(logging.WARNING):
        assert policy.before(FACTS) == policy.before(FACTS) == ""
    assert [record.getMessage().partition(":")[0] for record in caplog.records] == [
        "this kernel lacks seccomp"
    ]


def test_lenient_refuses_while_nothing_is_known_of_the_layers() -> None:
    assert SandboxPolicy(lambda: (), is_lenient=True).before(FACTS)
