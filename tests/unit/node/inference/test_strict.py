"""Strict nodes work for others inside every layer, or not at all."""

import pytest

from prsm.node.inference.interface import JobFacts
from prsm.node.inference.strict import StrictSandbox
from prsm.protocol.receipts import WorkKind

FACTS = JobFacts(
    job=bytes(32), tenant=b"", requester=bytes(32), kind=WorkKind.INFER, model=b"", rows=1
)


def test_strict_allows_when_all_layers_are_there() -> None:
    policy = StrictSandbox(lambda: ("rlimits", "landlock 7", "seccomp"))
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
    assert StrictSandbox(lambda: layers).before(FACTS).endswith(f"lacks {missing}")


def test_strict_asks_anew_each_time() -> None:
    """The worker program may come back on a kernel, or after a restart, with other layers."""
    layers = ["rlimits"]
    policy = StrictSandbox(lambda: layers)
    assert policy.before(FACTS)
    layers += ["landlock 1", "seccomp"]
    assert not policy.before(FACTS)
