"""The policy of `executor.sandbox`: which layers of the sandbox work for others needs.

Knows: the names of layers. Must not know: how they are applied (node/worker/sandbox), or jobs.
"""

import logging
from collections.abc import Callable, Sequence
from typing import Final

from prsm.node.config.schema import ExecutorConfig
from prsm.node.inference.interface import AllowAll, JobFacts, Policy
from prsm.node.inference.pool import Pool

log = logging.getLogger(__name__)

# As `Pool.layers` names them; a version may follow the name.
LAYERS: Final = ("rlimits", "landlock", "seccomp")


class SandboxPolicy:
    """Refuses units of others while this machine lacks a layer it could have.

    Args:
        layers: the layers the worker program found; empty while it is away.
        is_lenient: a layer that the kernel lacks is warned of once, and the work is done all
            the same; while the program is away nothing is known and work is refused.
    """

    def __init__(self, layers: Callable[[], Sequence[str]], *, is_lenient: bool = False) -> None:
        self._layers = layers
        self._is_lenient = is_lenient
        self._warned = ""

    def before(self, facts: JobFacts) -> str:
        """Why the work is refused; empty when it may be done."""
        del facts
        found = {layer.partition(" ")[0] for layer in self._layers()}
        missing = ", ".join(name for name in LAYERS if name not in found)
        if missing and found and self._is_lenient:
            if missing != self._warned:
                self._warned = missing
                log.warning(
                    "this kernel lacks %s: models of strangers run in a weaker sandbox; "
                    'executor.sandbox = "strict" refuses them',
                    missing,
                )
            return ""
        return f"the sandbox of this machine lacks {missing}" if missing else ""

    def after(self, facts: JobFacts, outcome: str) -> None:
        """Nothing is kept."""


def policy_for(config: ExecutorConfig, pool: Pool) -> Policy:
    """Return the policy that a configuration asks for.

    A device leaves layers out that the kernel has: only who says so works without them.
    """
    if config.sandbox == "degraded":
        return AllowAll()
    is_lenient = config.sandbox == "auto" and config.provider == "cpu"
    return SandboxPolicy(lambda: pool.layers, is_lenient=is_lenient)
