"""Methods as Python names, and arguments as people write them."""

from collections.abc import Mapping
from pathlib import Path

import pytest
from typing_extensions import override

from prsm.node.rpc.methods.table import METHODS
from prsm.node.rpc.methods.work import TensorText
from prsm.node.rpc.sdk import names
from prsm.node.rpc.sdk.surface import Surface
from prsm.node.rpc.spec import Method


class Recorder(Surface):
    """A client that only remembers."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, dict[str, object]]] = []

    @override
    def _do(self, method: Method, params: Mapping[str, object]) -> object:
        self.asked.append((method.name, dict(params)))
        return len(self.asked)


def test_every_method_is_reached_by_its_name_in_python() -> None:
    client = Recorder()
    for name in METHODS:
        space, _, _ = name.partition("_")
        call = getattr(getattr(client, space), names.spoken(name))
        assert call() == len(client.asked)
        assert names.spoken(name) in dir(getattr(client, space))
        assert METHODS[name].summary in call.__doc__
    assert [name for name, _ in client.asked] == list(METHODS)
    assert {"job", "model", "storage"} <= set(dir(client))


def test_arguments_become_what_the_node_reads() -> None:
    send = METHODS["wallet_transfer"]
    assert names.params_of(send, (b"\x01\x02", 5_000_000), {"name": "lab"}) == {
        "to": "0x0102",
        "amount": "5000000",
        "name": "lab",
    }
    run = METHODS["infer_run"]
    tensor = TensorText("x", "u8", (1,), "0x07")
    found = names.params_of(run, ("m",), {"inputs": (tensor,), "max_price": 3, "replicas": 1})
    assert found["inputs"] == [{"name": "x", "dtype": "u8", "shape": (1,), "data": "0x07"}]
    assert (found["max_price"], found["replicas"]) == ("3", 1)
    add = names.params_of(METHODS["model_add"], (Path("m.onnx"),), {"register": True})
    assert add == {"path": "m.onnx", "register": True}


def test_what_is_given_twice_or_too_often_is_refused() -> None:
    with pytest.raises(TypeError, match="takes 0 parameters, 1 were given"):
        names.params_of(METHODS["rpc_ping"], (1,), {})
    with pytest.raises(TypeError, match="to was given twice"):
        names.params_of(METHODS["wallet_transfer"], ("0x",), {"to": "0x"})


def test_the_nearest_name_is_told() -> None:
    with pytest.raises(AttributeError, match="did you mean 'model'"):
        _ = Recorder().modle  # type: ignore[attr-defined]  # that is the point
    with pytest.raises(AttributeError, match="only add, "):
        _ = Recorder().dataset.sell  # type: ignore[attr-defined]  # that is the point
    with pytest.raises(AttributeError, match="did you mean 'job_list'"):
        names.method_named("job_lits")
