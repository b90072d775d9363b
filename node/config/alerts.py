"""[alerts]: the program that is started when the node needs a person.

Knows: keys and bounds. Must not know: rules, how the program is started (`node/telemetry/pager`).
"""

from typing import Annotated, Literal

import msgspec

from prsm.node.config.section import Section, doc


class AlertsConfig(Section, frozen=True):
    """[alerts]: who is called when the node needs a person (docs/runbooks)."""

    notify: Annotated[
        tuple[Annotated[str, msgspec.Meta(min_length=1, max_length=4096)], ...],
        msgspec.Meta(max_length=64),
        doc(
            "program and arguments, started for each alert with a JSON line on its input; nobody "
            "if empty; danger: callers who may read see it, keep secrets in the program"
        ),
    ] = ()
    least: Annotated[
        Literal["info", "warning", "critical"], doc("least severity the program is called for")
    ] = "warning"
