"""The policy of `executor.sandbox = "strict"`: all layers of the sandbox, or no work for others.

Knows: the names of layers. Must not know: how they are applied (node/worker/sandbox), or jobs.
"""

from collections.abc import Callable, Sequence
from typing import Final

from prsm.node.inference.interface import JobFacts

# As `Pool.layers` names them; a version may follow the name.
LAYERS: Final = ("rlimits", "landlock", "seccomp")


class StrictSandbox:
    """Refuses units of others while this machine lacks a layer.

    Args:
        layers: the layers the worker program found; empty while it is away.
    """

    def __init__(self, layers: Callable[[], Sequence[str]]) -> None:
        self._layers = layers

    def before(self, facts: JobFacts) -> str:
        """Why the work is refused; empty when every layer is there."""
        del facts
        found = {layer.partition(" ")[0] for layer in self._layers()}
        missing = [name for name in LAYERS if name not in found]
        return f"the sandbox of this machine lacks {', '.join(missing)}" if missing else ""

    def after(self, facts: JobFacts, outcome: str) -> None:
        """Nothing is kept."""
