"""Numbers are read alike in words, in figures and in the mixtures that speech recognition writes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parley_understudy.brain.numbers import amounts, small_number

_ONES = [
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
    "nineteen",
]
_TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]


def in_words(number: int) -> str:
    """Return an English number in words, as a test's own independent spelling."""
    if number < 20:
        return _ONES[number]
    if number < 100:
        rest = f" {_ONES[number % 10]}" if number % 10 else ""
        return _TENS[number // 10 - 2] + rest
    for size, name in ((1_000_000, "million"), (1000, "thousand"), (100, "hundred")):
        if number >= size:
            rest = f" {in_words(number % size)}" if number % size else ""
            return f"{in_words(number // size)} {name}{rest}"
    raise AssertionError(number)


@given(st.integers(0, 999_999_999))
def test_a_number_said_in_words_is_that_number(number: int) -> None:
    assert [a.value for a in amounts(in_words(number))] == [number]


@given(st.integers(0, 999_999_999))
def test_a_number_written_in_figures_with_commas_is_that_number(number: int) -> None:
    assert [a.value for a in amounts(f"about ${number:,} please")] == [number]


@given(st.integers(1, 99), st.integers(0, 99))
def test_decimals_said_digit_by_digit_are_read(whole: int, part: int) -> None:
    digits = f"{part:02}"
    said = f"{in_words(whole)} point {_ONES[int(digits[0])]} {_ONES[int(digits[1])]} percent"
    [amount] = amounts(said)
    assert (amount.value, amount.unit) == (float(f"{whole}.{digits}"), "percent")


@given(st.text())
def test_reading_numbers_never_raises(text: str) -> None:
    assert all(0 <= a.start < a.end <= len(text) or a.end > len(text) for a in amounts(text))


@pytest.mark.parametrize(
    ("said", "value", "unit"),
    [
        ("three hundred thousand dollars", 300_000, "usd"),
        ("$300,000", 300_000, "usd"),
        ("300k", 300_000, None),
        ("$2.4 million", 2_400_000, "usd"),
        ("two point four million", 2_400_000, None),
        ("two and a half million dollars", 2_500_000, "usd"),
        ("half a million", 500_000, None),
        ("a quarter of a million dollars", 250_000, "usd"),
        ("two fifty thousand", 250_000, None),
        ("twenty five percent", 25, "percent"),
        ("25%", 25, "percent"),
        ("25 per cent", 25, "percent"),
        ("seven and a quarter percent", 7.25, "percent"),
        ("seven hundred and forty", 740, None),
        ("seven forty", 740, None),
        ("seven four zero", 740, None),
        ("seven oh five", 705, None),
        ("twenty-four hundred", 2400, None),
        ("nineteen eighty five", 1985, None),
        ("twenty twenty six", 2026, None),
        ("one million, two hundred thousand", 1_200_000, None),
        ("a hundred and five", 105, None),
        ("two grand", 2000, "usd"),
        ("minus five", -5, None),
        ("30-year", 30, "year"),
        ("three nights", 3, "night"),
    ],
)
def test_each_way_of_saying_a_number_is_read(said: str, value: float, unit: str | None) -> None:
    [amount] = amounts(said)
    assert (amount.value, amount.unit) == (value, unit)


def test_two_numbers_in_one_sentence_stay_two() -> None:
    said = "$300,000 with 25% down, and two thousand four hundred and seven forty"
    assert [a.value for a in amounts(said)] == [300_000, 25, 2400, 740]


def test_a_range_is_two_numbers() -> None:
    assert [a.value for a in amounts("between two hundred and three hundred thousand")] == [200, 300_000]


@pytest.mark.parametrize(
    ("said", "period"),
    [("$2,400 a month", "month"), ("3,600 per year", "year"), ("$50 weekly", "week"), ("$50", None)],
)
def test_the_period_of_a_sum_is_read(said: str, period: str | None) -> None:
    assert amounts(said)[0].period == period


@pytest.mark.parametrize("said", ["the second one", "one of them", "that one", "no numbers here", ""])
def test_what_only_sounds_like_a_number_is_none(said: str) -> None:
    assert amounts(said) == ()


def test_a_small_number_is_only_a_number_alone() -> None:
    assert (small_number("twelve"), small_number("12"), small_number("twelve o'clock")) == (12, 12, 12)
    assert small_number("two and three, four") is None
