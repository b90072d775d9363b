"""SemVer 2.0.0: the specification's own lists, npm's ranges, and references."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prsm.protocol.semver import BadVersion, Range, Reference, Version, is_channel, is_version

# semver.org, item 11.4.4, and 11.2 before it.
SPEC_ORDER = [
    "1.0.0-alpha",
    "1.0.0-alpha.1",
    "1.0.0-alpha.beta",
    "1.0.0-beta",
    "1.0.0-beta.2",
    "1.0.0-beta.11",
    "1.0.0-rc.1",
    "1.0.0",
    "2.0.0",
    "2.1.0",
    "2.1.1",
]
# From the list of the regular expression that semver.org suggests.
VALID = """
0.0.4 1.2.3 10.20.30 1.1.2-prerelease+meta 1.1.2+meta 1.1.2+meta-valid 1.0.0-alpha
1.0.0-beta 1.0.0-alpha.beta 1.0.0-alpha.beta.1 1.0.0-alpha.1 1.0.0-alpha0.valid
1.0.0-alpha.0valid 1.0.0-rc.1+build.1 2.0.0-rc.1+build.123 1.2.3-beta 10.2.3-DEV-SNAPSHOT
1.2.3-SNAPSHOT-123 1.0.0 2.0.0 1.1.7 2.0.0+build.1848 2.0.1-alpha.1227 1.0.0-alpha+beta
1.2.3----RC-SNAPSHOT.12.9.1--.12 1.2.3----R-S.12.9.1--.12+meta 1.2.3----RC-SNAPSHOT.12.9.1
1.0.0-0A.is.legal
"""
INVALID = """
1 1.2 1.2.3-0123 1.2.3-0123.0123 1.1.2+.123 +invalid -invalid -invalid+invalid
-invalid.01 alpha alpha.beta alpha.beta.1 alpha.1 alpha+beta alpha_beta alpha. alpha.. beta
1.0.0-alpha_beta -alpha. 1.0.0-alpha.. 1.0.0-alpha..1 1.0.0-alpha...1 01.1.1 1.01.1 1.1.01
1.2 1.2.3.DEV 1.2-SNAPSHOT 1.2.31.2.3----RC 1.2-RC-SNAPSHOT -1.0.3-gamma+b7718
+justmeta 9.8.7+meta+meta 9.8.7-whatever+meta+meta v1.2.3 1.2.\u0663
"""


def test_order_is_the_specifications_own_list() -> None:
    versions = [Version.parse(text) for text in SPEC_ORDER]
    for i, low in enumerate(versions):
        for high in versions[i + 1 :]:
            assert low < high
            assert high > low
            assert low != high
    assert list(map(str, versions)) == SPEC_ORDER


def test_build_metadata_has_no_place_in_the_order() -> None:
    first, second = Version.parse("1.0.0+a"), Version.parse("1.0.0+b")
    assert first == second
    assert hash(first) == hash(second)
    assert str(first) != str(second)
    assert first != "1.0.0"


@pytest.mark.parametrize("text", VALID.split())
def test_valid_versions_of_the_specification_are_read_back(text: str) -> None:
    assert is_version(text)
    assert str(Version.parse(text)) == text


@pytest.mark.parametrize("text", [*INVALID.split(), "", "1.2.3\n"])
def test_invalid_versions_of_the_specification_are_refused(text: str) -> None:
    assert not is_version(text)
    with pytest.raises(BadVersion, match=r"SemVer 2\.0\.0"):
        Version.parse(text)


def test_version_of_more_than_32_characters_is_refused() -> None:
    assert is_version("1.0.0-" + "a" * 26)
    with pytest.raises(BadVersion, match="32 characters"):
        Version.parse("1.0.0-" + "a" * 27)


identifiers = st.one_of(
    st.integers(0, 30).map(str),
    st.text("ab-Z0", min_size=1, max_size=3).filter(lambda text: not text.isdecimal()),
)
versions = st.builds(
    Version,
    st.integers(0, 3),
    st.integers(0, 3),
    st.integers(0, 3),
    st.lists(identifiers, max_size=3).map(tuple),
)


def dumb_compare(a: Version, b: Version) -> int:
    """Item 11 word by word: -1, 0 or 1."""
    if a.core != b.core:
        return -1 if a.core < b.core else 1
    if not a.pre or not b.pre:
        return bool(b.pre) - bool(a.pre)
    for left, right in zip(a.pre, b.pre, strict=False):
        if left == right:
            continue
        if left.isdecimal() and right.isdecimal():
            return -1 if int(left) < int(right) else 1
        if left.isdecimal() or right.isdecimal():
            return -1 if left.isdecimal() else 1
        return -1 if left.encode() < right.encode() else 1
    return (len(a.pre) > len(b.pre)) - (len(a.pre) < len(b.pre))


@given(versions, versions)
def test_order_is_the_specification_read_word_by_word(a: Version, b: Version) -> None:
    assert (a > b) - (a < b) == dumb_compare(a, b)
    assert (a == b) is (dumb_compare(a, b) == 0)
    assert Version.parse(str(a)) == a


# range, versions in it, versions outside it; node-semver's documentation gives the intervals
RANGES = [
    ("^1.2.3", "1.2.3 1.2.4 1.9.0", "1.2.2 2.0.0 2.0.0-alpha 1.3.0-beta"),
    ("^0.2.3", "0.2.3 0.2.9", "0.3.0 1.0.0 0.2.2"),
    ("^0.0.3", "0.0.3", "0.0.4 0.0.2 0.1.0"),
    ("^1.2.3-beta.2", "1.2.3-beta.2 1.2.3-beta.4 1.2.3 1.5.0", "1.2.3-beta.1 1.2.4-beta.2 2.0.0"),
    ("^1", "1.0.0 1.9.9", "0.9.9 2.0.0 1.0.0-rc.1"),
    ("^0", "0.0.0 0.9.9", "1.0.0"),
    ("^0.0", "0.0.0 0.0.9", "0.1.0"),
    ("^1.x", "1.0.0 1.7.0", "2.0.0"),
    ("~1.2.3", "1.2.3 1.2.9", "1.3.0 1.2.2"),
    ("~1.2", "1.2.0 1.2.9", "1.3.0 1.1.9"),
    ("~1", "1.0.0 1.9.9", "2.0.0"),
    ("1.2", "1.2.0 1.2.9", "1.3.0"),
    ("1.x", "1.0.0 1.9.9", "2.0.0 0.9.9"),
    ("1.2.*", "1.2.0", "1.3.0"),
    ("*", "0.0.0 9.9.9", "1.0.0-alpha"),
    ("=1.2.3", "1.2.3 1.2.3+build", "1.2.4 1.2.3-rc"),
    ("=1", "1.5.0", "2.0.0"),
    (">=1.0.0 <2.0.0", "1.0.0 1.9.9", "2.0.0 0.9.9 1.5.0-a"),
    (">= 1.0 < 2", "1.0.0", "2.0.0"),
    (">1.2.3", "1.2.4 9.0.0", "1.2.3"),
    (">1.2", "1.3.0", "1.2.0 1.2.9"),
    (">1", "2.0.0", "1.9.9"),
    (">*", "", "0.0.0 9.9.9"),
    ("<=1.2.3", "1.2.3 0.0.0", "1.2.4"),
    ("<=1.2", "1.2.9 0.0.0", "1.3.0"),
    ("<=*", "0.0.0 9.9.9", ""),
    (">1.0.0-a <1.0.0", "1.0.0-b", "1.0.0-a 1.0.0 1.1.0-b"),
    ("^1 || ^3", "1.5.0 3.5.0", "2.0.0 4.0.0"),
]


@pytest.mark.parametrize(("text", "inside", "outside"), RANGES)
def test_range_holds_what_npm_says(text: str, inside: str, outside: str) -> None:
    found = Range.parse(text)
    assert [v for v in inside.split() if not found.holds(Version.parse(v))] == []
    assert [v for v in outside.split() if found.holds(Version.parse(v))] == []


@pytest.mark.parametrize(
    "text", ["", "||", "^", "1.2.3.4", "^1.x-beta", "~1-rc", "latest!", "^01", "a" * 129, "1 ||"]
)
def test_text_that_is_no_range_is_refused(text: str) -> None:
    with pytest.raises(BadVersion, match="no range"):
        Range.parse(text)


def test_reference_is_a_name_and_at_most_one_wish() -> None:
    assert Reference.parse("minilm") == Reference("minilm")
    assert Reference.parse("org/minilm@1.2.0").exact == "1.2.0"
    assert Reference.parse("minilm@beta").channel == "beta"
    assert Reference.parse("minilm@x").range == Range.parse("x")
    for text in ("minilm", "minilm@1.2.0", "minilm@beta", "minilm@^1", "minilm@>=1 <2"):
        assert str(Reference.parse(text)) == text
    for text in ("", "@1.0.0", "minilm@"):
        with pytest.raises(BadVersion, match="no reference"):
            Reference.parse(text)
    with pytest.raises(BadVersion, match="no range"):
        Reference.parse("minilm@1.2.3@4")


def test_channel_begins_with_a_letter_and_is_no_range() -> None:
    assert all(map(is_channel, ("stable", "beta", "rc-1", "x1")))
    assert not any(map(is_channel, ("x", "1beta", "Beta", "", "a" * 33, "be_ta")))
