"""Versions: Semantic Versioning 2.0.0, ranges of them, and references such as `name@^1.2`.

Knows text and order. Must not know: which versions exist, or who published them. Ranges are those
of npm and Cargo, so that people meet what they know. Source: semver.org/spec/v2.0.0, items 9-11.
"""

import operator
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import total_ordering
from typing import Final, Self

from typing_extensions import override

from prsm.protocol.errors import LocalError

SEMVER_TEXT_MAX: Final = 32  # as in RegisterModel
_RANGE_TEXT_MAX: Final = 128
_NUMBER: Final = r"(?:0|[1-9][0-9]*)"
_IDENTIFIER: Final = rf"(?:{_NUMBER}|[0-9]*[A-Za-z-][0-9A-Za-z-]*)"
_VERSION: Final = re.compile(
    rf"({_NUMBER})\.({_NUMBER})\.({_NUMBER})"
    rf"(?:-({_IDENTIFIER}(?:\.{_IDENTIFIER})*))?"
    r"(?:\+([0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*))?"
)
# `1`, `1.2`, `1.x`, `*`: what is not said may be anything; a pre-release needs all three numbers.
_PARTIAL: Final = re.compile(
    rf"(\^|~|>=|<=|>|<|=)?({_NUMBER}|[xX*])(?:\.({_NUMBER}|[xX*]))?(?:\.({_NUMBER}|[xX*]))?"
    rf"(?:-({_IDENTIFIER}(?:\.{_IDENTIFIER})*))?(?:\+[0-9A-Za-z.-]+)?"
)
_GAP: Final = re.compile(r"(\^|~|>=|<=|>|<|=)\s+")
_CHANNEL: Final = re.compile(r"[a-z][a-z0-9-]{0,31}")

_Key = tuple[int, int, str]


class BadVersion(LocalError):
    """A text that is no version, no range, or no reference."""

    reason = "invalid_params"


@total_ordering
@dataclass(frozen=True, slots=True, eq=False)
class Version:
    """One version. Order and equality are those of precedence: build metadata is left out."""

    major: int
    minor: int
    patch: int
    pre: tuple[str, ...] = ()
    build: str = ""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a version, strictly.

        Raises:
            BadVersion: not the grammar of SemVer 2.0.0, or over 32 characters.
        """
        found = _VERSION.fullmatch(text) if len(text) <= SEMVER_TEXT_MAX else None
        if found is None:
            raise BadVersion(
                f"{text[:40]!r} is no version of SemVer 2.0.0 in {SEMVER_TEXT_MAX} characters",
                hint="write it as MAJOR.MINOR.PATCH, such as 1.4.0 or 2.0.0-rc.1",
            )
        major, minor, patch, pre, build = found.groups()
        parts = tuple(pre.split(".")) if pre else ()
        return cls(int(major), int(minor), int(patch), parts, build or "")

    @property
    def core(self) -> tuple[int, int, int]:
        """Major, minor and patch."""
        return (self.major, self.minor, self.patch)

    @property
    def is_prerelease(self) -> bool:
        """Does it come before the version of its three numbers?"""
        return bool(self.pre)

    @property
    def precedence(self) -> tuple[tuple[int, int, int], bool, tuple[_Key, ...]]:
        """What item 11 compares: numbers, a release after its pre-releases, identifiers."""
        return (self.core, not self.pre, tuple(map(_identifier_key, self.pre)))

    @override
    def __eq__(self, other: object) -> bool:
        return isinstance(other, Version) and self.precedence == other.precedence

    def __lt__(self, other: "Version") -> bool:
        return self.precedence < other.precedence

    @override
    def __hash__(self) -> int:
        return hash(self.precedence)

    @override
    def __str__(self) -> str:
        pre = "-" + ".".join(self.pre) if self.pre else ""
        build = "+" + self.build if self.build else ""
        return f"{self.major}.{self.minor}.{self.patch}{pre}{build}"


def is_version(text: str) -> bool:
    """Is the text a version of SemVer 2.0.0 in at most 32 characters?"""
    return len(text) <= SEMVER_TEXT_MAX and _VERSION.fullmatch(text) is not None


def is_channel(text: str) -> bool:
    """Is the text a name that a channel may have? A letter first, so that it is no range."""
    return _CHANNEL.fullmatch(text) is not None and text != "x"


_COMPARE: Final[dict[str, Callable[[Version, Version], bool]]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "=": operator.eq,
}


@dataclass(frozen=True, slots=True)
class _Bound:
    """What a version must be, compared with another."""

    relation: str
    version: Version

    def holds(self, version: Version) -> bool:
        return _COMPARE[self.relation](version, self.version)


@dataclass(frozen=True, slots=True)
class Range:
    """Alternatives of bounds that must all hold.

    A pre-release is in a range only if a bound names a pre-release of the same three numbers
    (npm's rule): whoever writes `^1` did not ask for `2.0.0-alpha` nor for `1.3.0-beta`.
    """

    text: str
    alternatives: tuple[tuple[_Bound, ...], ...]

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `^1.2`, `~1.2.3`, `>=1 <2`, `1.2`, `1.x`, `=1.2.3`, `*`, and `A || B`.

        Raises:
            BadVersion: none of these, or over 128 characters.
        """
        if len(text) > _RANGE_TEXT_MAX:
            raise _bad_range(text)
        listed = [_GAP.sub(r"\1", part).split() for part in text.split("||")]
        if not all(listed):
            raise _bad_range(text)
        return cls(
            text, tuple(tuple(b for word in words for b in _bounds(word)) for words in listed)
        )

    def holds(self, version: Version) -> bool:
        """Is the version in the range?"""
        return any(_holds(bounds, version) for bounds in self.alternatives)


@dataclass(frozen=True, slots=True)
class Reference:
    """What a person typed: a name, and at most one of a version, a range, a channel."""

    name: str
    exact: str | None = None
    range: Range | None = None
    channel: str | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `name`, `name@1.2.0`, `name@^1`, `name@1.2`, `name@beta`.

        Raises:
            BadVersion: no name, or what follows the `@` is none of these.
        """
        name, at, wanted = text.partition("@")
        if not name or (at and not wanted):
            raise BadVersion(
                f"{text[:80]!r} is no reference",
                hint="write NAME, NAME@VERSION, NAME@RANGE or NAME@CHANNEL",
            )
        if not wanted:
            return cls(name)
        if is_version(wanted):
            return cls(name, exact=wanted)
        if is_channel(wanted):
            return cls(name, channel=wanted)
        return cls(name, range=Range.parse(wanted))

    @override
    def __str__(self) -> str:
        wanted = self.exact or self.channel or (self.range.text if self.range else "")
        return f"{self.name}@{wanted}" if wanted else self.name


def _identifier_key(identifier: str) -> _Key:
    """Numbers before words, numbers by value, words by their ASCII."""
    return (0, int(identifier), "") if identifier.isdecimal() else (1, 0, identifier)


def _holds(bounds: tuple[_Bound, ...], version: Version) -> bool:
    if not all(bound.holds(version) for bound in bounds):
        return False
    return not version.is_prerelease or any(
        bound.version.is_prerelease and bound.version.core == version.core for bound in bounds
    )


def _bounds(word: str) -> tuple[_Bound, ...]:
    found = _PARTIAL.fullmatch(word)
    if found is None:
        raise _bad_range(word)
    relation, *numbers, pre = found.groups()
    known = _known(numbers)
    is_whole = len(known) == 3
    if pre and not is_whole:
        raise _bad_range(word)
    low = _filled(known, tuple(pre.split(".")) if pre else ())
    match relation:
        case "^":
            return _between(low, _caret(known))
        case "~":
            return _between(low, _next(known[:2]))
        case None | "=" if not is_whole:
            return _between(low, _next(known))
        case ">" | "<=" if not is_whole:
            return _beside(relation, _next(known))
    return (_Bound(relation or "=", low),)


def _beside(relation: str, after: Version | None) -> tuple[_Bound, ...]:
    """`>1.2` begins after every 1.2.x, and `<=1.2` ends there; after `*` there is nothing."""
    if relation == "<=":
        return _between(Version(0, 0, 0), after)
    return (_Bound("<", Version(0, 0, 0)),) if after is None else (_Bound(">=", after),)


def _known(numbers: list[str | None]) -> list[int]:
    """Numbers up to the first that is left open."""
    known: list[int] = []
    for number in numbers:
        if number is None or not number.isdecimal():
            break
        known.append(int(number))
    return known


def _caret(known: list[int]) -> Version | None:
    """The next version that may break: the leftmost number that is not zero rises."""
    place = next((i for i, number in enumerate(known) if number), len(known) - 1)
    return _next(known[: place + 1])


def _next(known: list[int]) -> Version | None:
    """The first version after all that begin so; None: there is none."""
    if not known:
        return None
    return _filled([*known[:-1], known[-1] + 1])


def _filled(known: list[int], pre: tuple[str, ...] = ()) -> Version:
    major, minor, patch = [*known, 0, 0, 0][:3]
    return Version(major, minor, patch, pre)


def _between(low: Version, high: Version | None) -> tuple[_Bound, ...]:
    lower = _Bound(">=", low)
    return (lower,) if high is None else (lower, _Bound("<", high))


def _bad_range(text: str) -> BadVersion:
    return BadVersion(
        f"{text[:80]!r} is no range of versions",
        hint="write it as ^1.2, ~1.2.3, 1.x, >=1.0.0 <2.0.0, or a version",
    )
