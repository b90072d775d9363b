"""The recipe decoder's network in torch, so that it can be trained; weights have the same names.

Knows the arithmetic of node/worker/recipes/decoder, of which this is the differentiable twin: a
test holds the two to the same logits. Must not know texts.

Source: Radford et al. 2019 (GPT-2, pre-normalised blocks).
"""

import math
from collections.abc import Mapping

import numpy as np
import torch
from torch.nn import functional

from prsm.node.worker.recipes.decoder import EPSILON, Config, Weights

Parameters = Mapping[str, torch.Tensor]


def draw(config: Config) -> dict[str, torch.Tensor]:
    """Draw the first weights from the seed; dense weights are (in, out)."""
    dice = torch.Generator().manual_seed(config.seed)
    width = config.width

    def normal(*shape: int, scale: float = 0.02) -> torch.Tensor:
        return torch.randn(shape, generator=dice) * scale

    found = {
        "words": normal(config.vocabulary, width),
        "places": normal(config.positions, width),
        "last.scale": torch.ones(width),
        "last.shift": torch.zeros(width),
        "head": normal(width, config.vocabulary),
    }
    small = 0.02 / math.sqrt(2 * config.layers)  # what is added to the residual, summed over layers
    dense = {"q.": (1, 1), "k.": (1, 1), "v.": (1, 1), "o.": (1, 1), "up.": (1, 4), "down.": (4, 1)}
    for layer in range(config.layers):
        block = f"layer{layer}."
        for part, (inside, outside) in dense.items():
            scale = small if part in ("o.", "down.") else 0.02
            found[f"{block}{part}w"] = normal(inside * width, outside * width, scale=scale)
            found[f"{block}{part}b"] = torch.zeros(outside * width)
        for part in ("n1.", "n2."):
            found[f"{block}{part}scale"] = torch.ones(width)
            found[f"{block}{part}shift"] = torch.zeros(width)
    return found


def logits(config: Config, weights: Parameters, ids: torch.Tensor) -> torch.Tensor:
    """Logits of the token after each place: float32 (batch, tokens, vocabulary).

    Args:
        config: size of the network.
        weights: as `draw` names them.
        ids: int64 (batch, tokens), at most `config.positions` of them.
    """
    x = weights["words"][ids] + weights["places"][: ids.shape[1]]
    for layer in range(config.layers):
        block = f"layer{layer}."
        x = x + _attend(config, weights, block, _norm(weights, block + "n1.", x))
        inner = functional.gelu(_linear(weights, block + "up.", _norm(weights, block + "n2.", x)))
        x = x + _linear(weights, block + "down.", inner)
    return _norm(weights, "last.", x) @ weights["head"]


def loss(config: Config, weights: Parameters, rows: torch.Tensor) -> torch.Tensor:
    """Mean cross-entropy in nats of each token given those before it; rows int64 (batch, n)."""
    found = logits(config, weights, rows[:, :-1])
    return functional.cross_entropy(found.flatten(0, 1), rows[:, 1:].flatten())


def as_arrays(weights: Parameters) -> Weights:
    """The weights as numpy arrays, float32."""
    return {
        name: np.ascontiguousarray(one.detach().numpy(), dtype=np.float32)
        for name, one in weights.items()
    }


def _attend(config: Config, weights: Parameters, block: str, x: torch.Tensor) -> torch.Tensor:
    batch, tokens, width = x.shape
    shape = (batch, tokens, config.heads, width // config.heads)
    query, key, value = (
        _linear(weights, f"{block}{part}.", x).view(shape).transpose(1, 2) for part in "qkv"
    )
    mixed = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
    return _linear(weights, block + "o.", mixed.transpose(1, 2).reshape(batch, tokens, width))


def _linear(weights: Parameters, name: str, x: torch.Tensor) -> torch.Tensor:
    return x @ weights[name + "w"] + weights[name + "b"]


def _norm(weights: Parameters, name: str, x: torch.Tensor) -> torch.Tensor:
    scale, shift = weights[name + "scale"], weights[name + "shift"]
    return functional.layer_norm(x, (x.shape[-1],), scale, shift, EPSILON)
