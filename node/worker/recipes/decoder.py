"""Build the own GPT-form transformer as ONNX from seeded weights, without torch.

Two forms of one network over bytes: `build_decoder` generates (key/value cache in and out),
`build_encoder` turns rows into vectors (no cache, mean pooling) and has MiniLM's inputs and
outputs, so it stands in where those weights cannot be had. Weights are given by name (`tiny-gpt`,
node/training), or drawn from a seed: such a model proves bits and timing, not knowledge.

Source: Radford et al. 2019 (GPT-2, pre-normalised blocks).
"""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import onnx
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from prsm.node.worker.recipes.files import keep
from prsm.node.worker.recipes.graph import GraphBuilder
from prsm.protocol.errors import LocalError

PADDING: Final = "[PAD]"
Weights = Mapping[str, npt.NDArray[np.float32]]
EPSILON: Final = 1e-5
_FLOAT: Final = onnx.TensorProto.FLOAT
_INT64: Final = onnx.TensorProto.INT64


@dataclass(frozen=True, slots=True)
class Config:
    """Size of the network; `vocabulary` is 256 bytes and the padding token."""

    layers: int = 4
    width: int = 256
    heads: int = 4
    positions: int = 512
    vocabulary: int = 257
    seed: int = 0

    def __post_init__(self) -> None:
        if self.width % self.heads:
            raise LocalError(f"width {self.width} is no multiple of {self.heads} heads")


class _Network:
    """The blocks both forms share; weights are given by name, or drawn in a fixed order."""

    def __init__(self, name: str, config: Config, weights: Weights | None = None) -> None:
        self.config = config
        self.graph = GraphBuilder(name)
        self._given = weights
        self._dice = np.random.default_rng(config.seed)

    def weight(self, name: str, *shape: int) -> npt.NDArray[np.float32]:
        """A named weight as given, else drawn; equal seeds draw equal weights.

        Raises:
            LocalError: the weight is missing, or of another shape.
        """
        if self._given is None:
            return (self._dice.standard_normal(shape) * 0.05).astype(np.float32)
        found = self._given.get(name)
        if found is None or found.shape != shape:
            has = "is missing" if found is None else f"has shape {list(found.shape)}"
            raise LocalError(f"weight {name!r} {has}, the network takes {list(shape)}")
        return found

    def embed(self, ids: str, places: str) -> str:
        """Words plus positions, float32 (batch, tokens, width)."""
        config, graph = self.config, self.graph
        table = self.weight("words", config.vocabulary, config.width)
        words = graph.node("Gather", [graph.weight("words", table), ids])
        return graph.node("Add", [words, places])

    def places(self) -> str:
        """Name of the table of positions."""
        config = self.config
        return self.graph.weight("places", self.weight("places", config.positions, config.width))

    def norm(self, name: str, x: str) -> str:
        """Layer normalisation; its parameters are neutral unless weights are given."""
        width = self.config.width
        scale, shift = np.ones(width, np.float32), np.zeros(width, np.float32)
        if self._given is not None:
            scale, shift = self.weight(name + "scale", width), self.weight(name + "shift", width)
        return self.graph.norm(name, x, scale, shift, EPSILON)

    def linear(self, name: str, x: str, inside: int, outside: int) -> str:
        """Dense layer from `inside` to `outside` features."""
        weight, bias = self.weight(name + "w", inside, outside), self.weight(name + "b", outside)
        return self.graph.linear(name, x, weight, bias)

    def heads(self, name: str, x: str) -> tuple[str, str, str]:
        """Query, key and value of a block, split into heads."""
        width, heads = self.config.width, self.config.heads
        query, key, value = (
            self.graph.split_heads(
                self.linear(f"{name}{part}.", x, width, width), heads=heads, width=width
            )
            for part in "qkv"
        )
        return query, key, value

    def finish_block(self, name: str, parts: tuple[str, str, str], bias: str, x: str) -> str:
        """Attend, project, add; then the inner network, add."""
        config, graph = self.config, self.graph
        width = config.width
        mixed = graph.attend(parts, bias, heads=config.heads, width=width)
        x = graph.node("Add", [x, self.linear(name + "o.", mixed, width, width)])
        inner = self.linear(name + "up.", self.norm(name + "n2.", x), width, 4 * width)
        return graph.node(
            "Add", [x, self.linear(name + "down.", graph.gelu(inner), 4 * width, width)]
        )


def build_encoder(config: Config) -> onnx.ModelProto:
    """Return rows to vectors.

    Inputs `input_ids` and `attention_mask`, int64 (batch, tokens); output `sentence_embedding`,
    float32 (batch, width), of unit length.
    """
    network = _Network("prsm-encoder", config)
    graph = network.graph
    graph.input("input_ids", _INT64, ["batch", "tokens"])
    graph.input("attention_mask", _INT64, ["batch", "tokens"])
    tokens = graph.node("Shape", ["input_ids"], start=1, end=2)
    zero, axis = graph.ints("zero", [0]), graph.ints("axis0", [0])
    hidden = network.embed("input_ids", graph.node("Slice", [network.places(), zero, tokens, axis]))
    bias = graph.mask_bias("attention_mask")
    for layer in range(config.layers):
        name = f"layer{layer}."
        parts = network.heads(name, network.norm(name + "n1.", hidden))
        hidden = network.finish_block(name, parts, bias, hidden)
    graph.mean_pool(
        network.norm("last.", hidden), "attention_mask", "sentence_embedding", config.width
    )
    return graph.model()


def build_decoder(config: Config, weights: Weights | None = None) -> onnx.ModelProto:
    """Return the next token's logits, with the cache of keys and values in and out.

    Inputs `ids` and `position_ids`, int64 (batch, tokens), and for each layer `past_k{i}` and
    `past_v{i}`, float32 (batch, heads, past, width / heads). Outputs `logits`, float32 (batch,
    vocabulary), of the last place, and `present_k{i}`, `present_v{i}`.

    Args:
        config: size of the network.
        weights: `words`, `places`, `head` (in, out), `last.scale`, `last.shift`, and for each
            block `layer{i}.` with `n1.` and `n2.` (`scale`, `shift`), `q.`, `k.`, `v.`, `o.`,
            `up.`, `down.` (`w` (in, out), `b`); else they are drawn from the seed.

    Raises:
        LocalError: a weight is missing or of another shape.
    """
    network = _Network("prsm-decoder", config, weights)
    graph = network.graph
    graph.input("ids", _INT64, ["batch", "tokens"])
    graph.input("position_ids", _INT64, ["batch", "tokens"])
    hidden = network.embed("ids", graph.node("Gather", [network.places(), "position_ids"]))
    for layer in range(config.layers):
        hidden = _cached_block(network, layer, hidden)
    last = graph.node("Gather", [network.norm("last.", hidden), graph.ints("last", [-1])], axis=1)
    last = graph.node("Squeeze", [last, graph.ints("axis1", [1])])
    table = network.weight("head", config.width, config.vocabulary)
    graph.node("MatMul", [last, graph.weight("head", table)], to_name="logits")
    graph.output("logits", _FLOAT, ["batch", config.vocabulary])
    return graph.model()


def build_tokenizer() -> Tokenizer:
    """Return a tokenizer of lower-cased text into UTF-8 bytes, ids 0 to 255."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {letter: place for place, letter in enumerate(alphabet)}
    vocabulary[PADDING] = len(vocabulary)
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.add_special_tokens([PADDING])
    return tokenizer


def write(out: Path, config: Config | None = None) -> tuple[Path, Path]:
    """Write `model.onnx` (the encoder form) and `tokenizer.json` into a directory."""
    out.mkdir(parents=True, exist_ok=True)
    model, tokenizer = out / "model.onnx", out / "tokenizer.json"
    keep(model, build_encoder(config or Config()).SerializeToString(deterministic=True))
    keep(tokenizer, build_tokenizer().to_str().encode())
    return model, tokenizer


def _cached_block(network: _Network, layer: int, hidden: str) -> str:
    """One block; its causal mask comes from its own past, so no stage needs another's cache."""
    config, graph = network.config, network.graph
    name = f"layer{layer}."
    query, key, value = network.heads(name, network.norm(name + "n1.", hidden))
    shape: list[int | str] = ["batch", config.heads, "past", config.width // config.heads]
    grown: list[int | str] = [
        "batch",
        config.heads,
        "past_and_tokens",
        config.width // config.heads,
    ]
    whole = []
    for letter, part in (("k", key), ("v", value)):
        past = graph.input(f"past_{letter}{layer}", _FLOAT, shape)
        present = f"present_{letter}{layer}"
        whole.append(graph.node("Concat", [past, part], to_name=present, axis=2))
        graph.output(present, _FLOAT, grown)
    bias = _causal_bias(graph, f"past_k{layer}", whole[0])
    return network.finish_block(name, (query, whole[0], whole[1]), bias, hidden)


def _causal_bias(graph: GraphBuilder, past: str, present: str) -> str:
    """0 where place j may be seen from place i, else -6e4; (tokens, past + tokens)."""
    axis = graph.ints("axis0", [0])
    before = graph.node("Squeeze", [graph.node("Shape", [past], start=2, end=3), axis])
    total = graph.node("Squeeze", [graph.node("Shape", [present], start=2, end=3), axis])
    zero = graph.weight("zero_rank0", np.array(0, dtype=np.int64))
    one = graph.weight("one_rank0", np.array(1, dtype=np.int64))
    columns = graph.node("Range", [zero, total, one])
    rows = graph.node("Range", [before, total, one])
    rows = graph.node("Unsqueeze", [rows, graph.ints("axis1", [1])])
    seen = graph.node("LessOrEqual", [columns, rows])
    return graph.node("Where", [seen, graph.scalar("none", 0.0), graph.scalar("far", -6e4)])


if __name__ == "__main__":
    write(Path(sys.argv[1]))
