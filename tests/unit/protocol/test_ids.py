"""Texts of the wire's nouns: addresses, hex, amounts."""

import pytest

from prsm.protocol.errors import LocalError
from prsm.protocol.ids import (
    MICRO_PER_FTNS,
    address_text,
    format_ftns,
    parse_ftns,
    parse_hex,
)

KEY = bytes(range(32))


def test_address_text_is_read_back_by_parse_hex() -> None:
    text = address_text(KEY)
    assert text.startswith("0x000102")
    assert len(text) == 66
    assert parse_hex(text, size=32, what="address") == KEY
    assert parse_hex(text.upper().replace("0X", "0x"), size=32, what="address") == KEY
    assert parse_hex(KEY.hex(), size=32, what="address") == KEY


@pytest.mark.parametrize(
    "text",
    ["", "0x", "0x" + "00" * 31, "0x" + "00" * 33, "0x" + "zz" * 32, "0x" + "0" * 63, "00 " * 32],
)
def test_parse_hex_refuses_what_is_no_hex_of_that_size(text: str) -> None:
    with pytest.raises(LocalError, match="address") as caught:
        parse_hex(text, size=32, what="address")
    assert "64 hex digits" in caught.value.hint


def test_parse_hex_cuts_a_long_text_in_its_message() -> None:
    with pytest.raises(LocalError) as caught:
        parse_hex("q" * 10_000, size=32, what="address")
    assert len(caught.value.what) < 200


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        (0, "0.00"),
        (1, "0.000001"),
        (3_200_000, "3.20"),
        (3_250_001, "3.250001"),
        (MICRO_PER_FTNS, "1.00"),
        (-3_200_000, "-3.20"),
        (-1, "-0.000001"),
        (2**63 - 1, "9223372036854.775807"),
    ],
)
def test_format_ftns_writes_decimals_without_a_float(amount: int, text: str) -> None:
    assert format_ftns(amount) == text


@pytest.mark.parametrize(
    ("text", "amount"),
    [
        ("3", 3_000_000),
        ("3.2", 3_200_000),
        (" 3.25 ", 3_250_000),
        ("3.", 3_000_000),
        ("0.000001", 1),
        ("0", 0),
        ("007", 7_000_000),
        ("9223372036854.775807", 2**63 - 1),
    ],
)
def test_parse_ftns_reads_decimals(text: str, amount: int) -> None:
    assert parse_ftns(text) == amount


@pytest.mark.parametrize(
    "text",
    [
        "",
        ".",
        ".5",
        "-1",
        "+1",
        "1e3",
        "1,5",
        "1.0000001",
        "1.2.3",
        "1 000",
        "1_000",
        "0x10",
        "nan",
    ],
)
def test_parse_ftns_refuses_what_is_no_amount(text: str) -> None:
    with pytest.raises(LocalError) as caught:
        parse_ftns(text)
    assert "3.25" in caught.value.hint


@pytest.mark.parametrize("text", ["\u0663", "1.\u0663", "9" * 14])
def test_parse_ftns_refuses_foreign_digits_and_more_than_there_can_be(text: str) -> None:
    with pytest.raises(LocalError):
        parse_ftns(text)


@pytest.mark.parametrize("amount", [0, 1, 999_999, 1_000_000, 123_456_789, 2**53 + 1])
def test_parse_ftns_reads_back_what_format_ftns_writes(amount: int) -> None:
    assert parse_ftns(format_ftns(amount)) == amount
