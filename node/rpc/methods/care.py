"""node_getConfig node_runDoctor: what is set, and what is wrong."""

from typing import Final, Literal

from prsm.node.rpc.spec import Count, Method, NoParams, Result, Scope

ConfigValue = str | int | bool | tuple[str, ...]


class ConfigRow(Result, frozen=True):
    """One key: what the running node has, where that comes from, and what is set by now."""

    key: str
    value: ConfigValue
    origin: Literal["flag", "env", "file", "system", "profile", "default"]
    about: str
    pending: ConfigValue | None  # what the next start would take, where that differs


class ConfigRows(Result, frozen=True):
    """Every key; passwords in URLs are blanked."""

    items: tuple[ConfigRow, ...]


class DoctorRow(Result, frozen=True):
    """The result of one check."""

    number: str
    name: str
    level: Literal["ok", "note", "warning", "fault"]
    what: str
    fix: str
    can_fix: bool


class DoctorReport(Result, frozen=True):
    """All checks of the folder, the machine and the node."""

    faults: Count
    warnings: Count
    items: tuple[DoctorRow, ...]


METHODS: Final = (
    Method(
        "node_getConfig",
        NoParams,
        ConfigRows,
        Scope.READ,
        "Every key of the configuration and where its value comes from.",
    ),
    Method(
        "node_runDoctor",
        NoParams,
        DoctorReport,
        Scope.READ,
        "What is wrong with the node, its folder and its machine, and what to type.",
    ),
)
