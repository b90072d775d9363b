"""All checks in order, and what can be repaired without a choice.

Nothing here asks anybody: answers of a running node are handed in. Knows: the checks. Must not
know: who shows the findings.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Final

from prsm.node.config import load
from prsm.node.doctor import folder, machine, running
from prsm.node.doctor.finding import Answers, Check, Finding, Patient
from prsm.node.home import Home
from prsm.protocol.errors import LocalError, PrsmError

CHECKS: Final[tuple[Check, ...]] = (*folder.CHECKS, *machine.CHECKS, *running.CHECKS)
# No folder: the checks of one would say so again and again.
_WITHOUT_A_NODE: Final[tuple[Check, ...]] = (folder.CHECKS[0], *machine.ANYWHERE)


def examine(
    home: Home, *, answers: Answers | None = None, environ: Mapping[str, str] | None = None
) -> tuple[Finding, ...]:
    """Look at a folder, its machine and, by its answers, the node; blocks for up to a second.

    Args:
        home: the folder; it may hold no node.
        answers: method -> result of the running node.
        environ: where PRSM_SECTION__KEY variables are read from; the process's own if None.
    """
    config, why_not = None, ""
    try:
        config = load(home.config, environ=os.environ if environ is None else environ).config
    except PrsmError as error:
        why_not = f"{error.what}; {error.hint}" if error.hint else error.what
    holder = home.holder()
    now_ms = int(datetime.now(UTC).timestamp() * 1000)
    pid, work = (holder.pid, holder.work) if holder else (0, "")
    other = f"process {pid} ({work})" if work else ""
    patient = Patient(home, config, why_not, 0 if work else pid, answers or {}, now_ms, other)
    if not home.version.exists():
        return tuple(finding for check in _WITHOUT_A_NODE for finding in _each(check, patient))
    return tuple(finding for check in CHECKS for finding in _each(check, patient))


def mend(finding: Finding, home: Home) -> str:
    """Repair what needs no choice; says what was done.

    Raises:
        LocalError: this finding cannot be repaired, or the system refuses.
    """
    mending = _MENDING.get(finding.number)
    if mending is None or not finding.can_fix:
        raise LocalError(f"{finding.number} cannot be repaired here", hint=finding.fix)
    try:
        return mending(home)
    except OSError as error:
        raise LocalError(f"{finding.number}: {error}", hint=finding.fix) from error


def _each(check: Check, patient: Patient) -> Iterator[Finding]:
    try:
        yield check(patient)
    except (
        OSError,
        LookupError,
        TypeError,
        ValueError,
    ) as error:  # also of another version's answer
        name = check.__name__.strip("_")
        yield Finding(
            "D-00",
            name,
            "warning",
            f"{name} cannot be looked at: {error}",
            "run as the node's user",
        )


_MENDING: Final[Mapping[str, Callable[[Home], str]]] = {
    "D-02": folder.narrow,
    "D-07": folder.remove_stale,
}
