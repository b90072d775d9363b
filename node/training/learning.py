"""Training of the small decoder: seeded steps, checkpoints, the loss before and after.

Knows optimisation and its checkpoint. Must not know where text comes from or what becomes of the
weights. The rows of a step follow from seed and step number alone, so a run that was cut short and
goes on from its checkpoint takes the steps it would have taken.
"""

import hashlib
import io
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch

from prsm.node.training import network
from prsm.node.training.tokens import Tokens
from prsm.node.worker.recipes.decoder import Config
from prsm.node.worker.recipes.files import keep
from prsm.protocol.errors import LocalError

_CHECKPOINT: Final = "checkpoint.pt"
_HELD_OUT_ROWS: Final = 64
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Course:
    """How long and how fast: rows of `tokens` + 1 tokens, `rows` of them a step."""

    steps: int = 1200
    rows: int = 16
    tokens: int = 128
    rate: float = 2e-3
    warm_up: int = 50
    save_every: int = 50
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Learned:
    """Weights, and the mean loss in nats a token on held-out text before and after."""

    weights: dict[str, torch.Tensor]
    loss_before: float
    loss_after: float
    resumed_at: int


def train(
    text: Tokens, held_out: Tokens, config: Config, course: Course, *, folder: Path, say: Say
) -> Learned:
    """Train from the seed, or go on from the checkpoint in `folder`.

    Raises:
        LocalError: no steps, too little text, or rows longer than the table of positions.
    """
    if course.steps < 1:
        raise LocalError(f"{course.steps} steps of training, at least 1")
    if course.tokens > config.positions:
        raise LocalError(f"rows of {course.tokens} tokens, the network has {config.positions}")
    if min(len(text), len(held_out)) <= course.tokens + 1:
        raise LocalError(f"text of {len(text)} tokens and {len(held_out)} held out is too little")
    folder.mkdir(parents=True, exist_ok=True)
    asked = _windows(held_out, course.tokens)
    weights = network.draw(config)
    before = _held_out_loss(config, weights, asked)
    say(f"held-out loss before training: {before:.3f} nats a token")
    for one in weights.values():
        one.requires_grad_(requires_grad=True)
    optimiser = torch.optim.AdamW(weights.values(), lr=course.rate, weight_decay=0.01)
    key = _key(text, config, course)
    start = _resume(folder / _CHECKPOINT, key, weights, optimiser, say=say)
    for step in range(start, course.steps):
        value = _step(text, config, course, weights, optimiser, step)
        if (step + 1) % course.save_every == 0 or step + 1 == course.steps:
            _save(folder / _CHECKPOINT, key, weights, optimiser, step + 1)
            say(f"step {step + 1} of {course.steps}: loss {value:.3f}")
    after = _held_out_loss(config, weights, asked)
    say(f"held-out loss after training: {after:.3f} nats a token")
    return Learned(weights, before, after, start)


def _step(
    text: Tokens,
    config: Config,
    course: Course,
    weights: dict[str, torch.Tensor],
    optimiser: torch.optim.Optimizer,
    step: int,
) -> float:
    dice = np.random.default_rng((course.seed, step))
    starts = dice.integers(0, len(text) - course.tokens - 1, course.rows)
    rows = np.stack([text[start : start + course.tokens + 1] for start in starts])
    for group in optimiser.param_groups:
        group["lr"] = course.rate * _pace(step, course)
    found = network.loss(config, weights, torch.from_numpy(rows))
    optimiser.zero_grad()
    found.backward()
    torch.nn.utils.clip_grad_norm_(weights.values(), 1.0)
    optimiser.step()
    return float(found.detach())


def _pace(step: int, course: Course) -> float:
    """Share of the full rate: linear at first, then half a cosine down to a tenth."""
    if step < course.warm_up:
        return (step + 1) / course.warm_up
    done = (step - course.warm_up) / max(1, course.steps - course.warm_up)
    return 0.1 + 0.45 * (1 + math.cos(math.pi * done))


def _windows(held_out: Tokens, tokens: int) -> torch.Tensor:
    """Rows spread evenly over the held-out text; int64 (rows, tokens + 1)."""
    count = min(_HELD_OUT_ROWS, len(held_out) // (tokens + 1))
    starts = np.linspace(0, len(held_out) - tokens - 1, count).astype(int)
    return torch.from_numpy(np.stack([held_out[start : start + tokens + 1] for start in starts]))


def _held_out_loss(config: Config, weights: network.Parameters, rows: torch.Tensor) -> float:
    with torch.no_grad():
        return float(network.loss(config, weights, rows))


def _key(text: Tokens, config: Config, course: Course) -> str:
    """What must be equal for a checkpoint to be gone on from.

    The text is part of it: another text has another tokenizer, whose ids mean other words.
    """
    return repr((hashlib.sha256(text.tobytes()).hexdigest(), config, course))


def _save(
    path: Path,
    key: str,
    weights: dict[str, torch.Tensor],
    optimiser: torch.optim.Optimizer,
    step: int,
) -> None:
    state = {
        "key": key,
        "step": step,
        "weights": {name: one.detach() for name, one in weights.items()},
        "optimiser": optimiser.state_dict(),
    }
    raw = io.BytesIO()
    torch.save(state, raw)
    keep(path, raw.getvalue())


def _resume(
    path: Path,
    key: str,
    weights: dict[str, torch.Tensor],
    optimiser: torch.optim.Optimizer,
    *,
    say: Say,
) -> int:
    """Load what an earlier run saved; 0 when there is none, or it is of another course or text."""
    if not path.is_file():
        return 0
    try:
        # Refuses anything but tensors and plain values.
        state = torch.load(path, weights_only=True)
    except OSError:
        raise
    except Exception as error:  # noqa: BLE001 - a damaged file is refused in a dozen classes
        say(f"{path} cannot be read ({type(error).__name__}): training begins anew")
        return 0
    if not isinstance(state, dict) or state.get("key") != key:
        return 0
    with torch.no_grad():
        for name, one in weights.items():
            one.copy_(state["weights"][name])
    optimiser.load_state_dict(state["optimiser"])
    return int(state["step"])
