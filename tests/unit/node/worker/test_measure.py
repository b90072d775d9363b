"""What a comparison of two forms takes, and what it says of graphs it cannot compare."""

from collections.abc import Callable

import numpy as np
import onnx
import pytest

from prsm.node.worker import measure, session, text
from prsm.node.worker.recipes import decoder
from prsm.node.worker.recipes.graph import GraphBuilder
from prsm.protocol.messages.pipe import InputMismatch
from tests.tools import graphs

_FLOAT = onnx.TensorProto.FLOAT
_WORDS = b"a worker signs receipt 7 of the job " * 9


def _loaded(model: onnx.ModelProto) -> session.Model:
    return session.load(model.SerializeToString())


def _renamed(names: dict[str, str]) -> onnx.ModelProto:
    model = graphs.cached_decoder()
    for node in model.graph.node:
        for side in (node.input, node.output):
            for place, name in enumerate(side):
                side[place] = names.get(name, name)
    for value in (*model.graph.input, *model.graph.output):
        value.name = names.get(value.name, value.name)
    return model


def _loss(model: onnx.ModelProto) -> float:
    loaded = _loaded(model)
    tokenizer = text.load(decoder.build_tokenizer().to_str().encode())
    return measure.run(loaded, measure.of_texts(_WORDS, tokenizer, loaded)).loss


def test_decoder_with_the_names_of_transformers_is_compared_as_ours() -> None:
    """Goal: what generates can be measured. Method: one network, its cache named twice."""
    names = {}
    for layer in range(2):
        for letter, word in (("k", "key"), ("v", "value")):
            names[f"past_{letter}{layer}"] = f"past_key_values.{layer}.{word}"
            names[f"present_{letter}{layer}"] = f"present.{layer}.{word}"
    assert _loss(_renamed(names)) == _loss(graphs.cached_decoder())


def test_decoder_may_give_more_than_logits() -> None:
    """Goal: what a generation has no use for keeps nobody from comparing the logits."""
    model = graphs.cached_decoder()
    model.graph.node.append(onnx.helper.make_node("Identity", ["logits"], ["hidden"]))
    model.graph.output.append(onnx.helper.make_tensor_value_info("hidden", _FLOAT, ["a", "b"]))
    assert _loss(model) == _loss(graphs.cached_decoder())


def test_decoder_without_logits_is_refused() -> None:
    with pytest.raises(InputMismatch, match="makes 'scores' of 'ids'"):
        _loss(_renamed({"logits": "scores"}))


def _made(kind: str, **attributes: object) -> Callable[[], onnx.ModelProto]:
    def make() -> onnx.ModelProto:
        graph = GraphBuilder(kind)
        graph.input("x", _FLOAT, ["batch", 4])
        graph.node(kind, ["x"], to_name="y", **attributes)
        graph.output("y", _FLOAT, [] if attributes else ["batch", 4])
        return graph.model()

    return make


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (_made("ReduceSum", keepdims=0), r"output 'y' has shape \[\]: no rows"),
        (_made("Log"), "'y' holds NaN or infinity"),
    ],
)
def test_outputs_that_cannot_be_compared_are_named(
    make: Callable[[], onnx.ModelProto], words: str
) -> None:
    sample = measure.Sample(({"x": np.full((2, 4), -1, np.float32)},))
    with pytest.raises(InputMismatch, match=words):
        measure.run(_loaded(make()), sample)


def test_labels_of_other_rows_are_refused() -> None:
    sample = measure.Sample(labels=(np.zeros(3, np.int64),))
    outcome = measure.Outcome([np.ones((2, 4), np.float32)])
    with pytest.raises(InputMismatch, match="2 rows of output for 3 labels"):
        measure.compare(sample, outcome, outcome)


@pytest.mark.parametrize("raw", [b"", b"junk", b"PRSMslices" * 9])
def test_samples_that_are_no_dataset_are_refused(raw: bytes) -> None:
    with pytest.raises(InputMismatch, match="the samples are no dataset"):
        measure.of_slices(raw)
