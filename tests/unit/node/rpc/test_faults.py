"""One class for each reason, and what an error shows."""

import pytest

from prsm.node.rpc import errors_by_reason as errors
from prsm.node.rpc.errors import NodeUnreachable
from prsm.node.rpc.faults import RpcError, class_for, class_name, fault_here, fault_of
from prsm.node.rpc.reasons import REGISTRY


def test_every_reason_has_a_class_of_its_own() -> None:
    classes = {reason: getattr(errors, class_name(reason)) for reason in REGISTRY}
    assert len(set(classes.values())) == len(REGISTRY)
    for reason, cls in classes.items():
        error = fault_of(1, "x", {"reason": reason})
        assert type(error) is cls
        assert isinstance(error, RpcError)
        assert error.retryable == REGISTRY[reason].retryable
        assert class_name(reason) in dir(errors)


def test_the_reason_that_gave_a_code_its_name_stands_above_the_others_of_it() -> None:
    for reason, entry in REGISTRY.items():
        same = [one for one, other in REGISTRY.items() if other.code == entry.code]
        above = [one for one in same if issubclass(class_for(reason), class_for(one))]
        heads = set(above) - {reason}
        assert len(heads) <= 1, reason
        for head in heads:
            assert all(issubclass(class_for(one), class_for(head)) for one in same)
    assert issubclass(errors.UnknownGeneration, errors.NotFound)
    assert issubclass(errors.MempoolFull, errors.RateLimited)


def test_a_reason_of_a_newer_node_is_a_plain_error() -> None:
    error = fault_of(-32099, "x", {"reason": "from_the_future", "retryable": True})
    assert type(error) is RpcError
    assert (error.reason, error.retryable) == ("from_the_future", True)
    with pytest.raises(AttributeError, match="FromTheFuture"):
        _ = errors.FromTheFuture


def test_an_error_of_this_side_is_of_the_same_family() -> None:
    error = fault_here(NodeUnreachable("no node answers", hint="prsm start"))
    assert isinstance(error, class_for("node_unreachable"))
    assert (error.what, error.hint, error.retryable) == ("no node answers", "prsm start", True)
    assert str(error).splitlines()[::2] == ["no node answers", "try: prsm start"]
