"""`tiny-gpt`: learn from the text of this installation, export as ONNX, compare the two.

Knows the recipe's steps. The graph is written by node/worker/recipes/decoder from the trained
weights, without torch's own exporter.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
import torch

from prsm.node.training import corpus, learning, network, tokens
from prsm.node.worker import session
from prsm.node.worker.pipe import Array
from prsm.node.worker.recipes import decoder
from prsm.node.worker.recipes.files import keep
from prsm.protocol.errors import LocalError

CONFIG: Final = decoder.Config(layers=4, width=128, heads=4, positions=256, vocabulary=1024)
_PROMPT: Final = "Return the"
_CHECKED_TOKENS: Final = 48


@dataclass(frozen=True, slots=True)
class Built:
    """What the recipe made.

    Attributes:
        model: the ONNX file.
        tokenizer: beside it.
        samples: the held-out text.
        parameters: numbers in the network.
        tokens: of the text it learned from.
        loss_before: on held-out text, nats a token, before the first step.
        loss_after: the same after the last.
        sample: what it goes on with after a few words.
    """

    model: Path
    tokenizer: Path
    samples: Path
    parameters: int
    tokens: int
    loss_before: float
    loss_after: float
    sample: str


def write(
    out: Path,
    *,
    text: corpus.Corpus,
    config: decoder.Config = CONFIG,
    course: learning.Course | None = None,
    say: Callable[[str], None],
) -> Built:
    """Train, and write `model.onnx`, `tokenizer.json` and `heldout.txt` into a directory.

    Raises:
        LocalError: too little text, or the ONNX graph goes on with other tokens than torch.
    """
    out.mkdir(parents=True, exist_ok=True)
    tokenizer = tokens.learn(text.training, config.vocabulary)
    config = replace(config, vocabulary=tokenizer.get_vocab_size())
    learn_from = tokens.line(tokenizer, text.training)
    asked = tokens.line(tokenizer, text.held_out)
    say(f"{len(learn_from)} tokens to learn from, {len(asked)} held out")
    # One thread: a second one waits at each barrier, and with one the weights do not depend on how
    # many cores there are (a step of 2,048 tokens: 0.22 CPU-s with one, 0.8 to 1.8 with two busy).
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(mode=True)
    course = course or learning.Course()
    done = learning.train(learn_from, asked, config, course, folder=out, say=say)
    weights = network.as_arrays(done.weights)
    raw = decoder.build_decoder(config, weights).SerializeToString(deterministic=True)
    prompt = tokenizer.encode(_PROMPT).ids
    ours = generate(session.load(raw), config, prompt, _CHECKED_TOKENS)
    theirs = _generate_torch(config, done.weights, prompt, _CHECKED_TOKENS)
    if ours != theirs:
        place = next(i for i, pair in enumerate(zip(ours, theirs, strict=True)) if len({*pair}) > 1)
        raise LocalError(f"torch and ONNX differ in token {place + 1} after {_PROMPT!r}")
    say(f"the same {len(ours)} tokens from torch and from ONNX")
    keep(out / "tokenizer.json", tokenizer.to_str().encode())
    keep(out / "heldout.txt", "\n\f\n".join(text.held_out).encode())
    keep(out / "model.onnx", raw)
    return Built(
        model=out / "model.onnx",
        tokenizer=out / "tokenizer.json",
        samples=out / "heldout.txt",
        parameters=sum(one.size for one in weights.values()),
        tokens=len(learn_from),
        loss_before=done.loss_before,
        loss_after=done.loss_after,
        sample=_PROMPT + tokenizer.decode(ours),
    )


def generate(
    model: session.Model, config: decoder.Config, prompt: list[int], count: int
) -> list[int]:
    """The most likely tokens after a prompt, step by step over the cache; ties to the lowest id."""
    shape = (1, config.heads, 0, config.width // config.heads)
    cache: dict[str, Array] = {
        f"past_{letter}{layer}": np.zeros(shape, np.float32)
        for layer in range(config.layers)
        for letter in "kv"
    }
    found: list[int] = []
    ids, start = prompt, 0
    while len(found) < count:
        places = np.arange(start, start + len(ids), dtype=np.int64)[None]
        feeds = {"ids": np.array([ids], np.int64), "position_ids": places, **cache}
        outputs = session.compute(model, feeds, session.run_options())
        found.append(int(outputs.pop("logits")[0].argmax()))
        cache = {name.replace("present", "past"): array for name, array in outputs.items()}
        start += len(ids)
        ids = found[-1:]
    return found


def _generate_torch(
    config: decoder.Config, weights: network.Parameters, prompt: list[int], count: int
) -> list[int]:
    """The same from torch, which computes every place anew."""
    ids = list(prompt)
    with torch.no_grad():
        for _ in range(count):
            ids.append(int(network.logits(config, weights, torch.tensor([ids]))[0, -1].argmax()))
    return ids[len(prompt) :]
