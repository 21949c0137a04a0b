"""E-mail addresses, phone numbers, names, codes and yes or no are found in spoken and in written form."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parley_understudy.brain.entities import agreement, codes, emails, names, phones, run_of_digits

_DIGITS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
_WORD = st.sampled_from(["daniel", "cooper", "maria", "blake", "zoe", "quinn", "ivy", "hart"])


@pytest.mark.parametrize(
    ("said", "address"),
    [
        ("My email is daniel dot cooper at example dot com.", "daniel.cooper@example.com"),
        ("My email is daniel.cooper at example.com", "daniel.cooper@example.com"),
        ("Daniel.Cooper@Example.com.", "daniel.cooper@example.com"),
        ("It's d as in david, a n at example dot com", "dan@example.com"),
        ("my email is daniel cooper at example dot com", "danielcooper@example.com"),
        ("dan underscore cooper seven seven at mail dot example dot org", "dan_cooper77@mail.example.org"),
        ("Daniel. Cooper at example. com", "daniel.cooper@example.com"),
        ("No, it's mary dash ann at example dot com", "mary-ann@example.com"),
        ("you can contact me at jo at example dot com", "jo@example.com"),
        ("my address is j o at example dot com thanks", "jo@example.com"),
    ],
)
def test_each_way_of_giving_an_address_is_read(said: str, address: str) -> None:
    assert [f.value for f in emails(said)] == [address]


@pytest.mark.parametrize("said", ["I work at example.com", "look at this", "meet me at noon", "dan at home"])
def test_what_is_no_address_gives_none(said: str) -> None:
    assert emails(said) == ()


@given(_WORD, _WORD, st.sampled_from(["example.com", "example.org", "mail.example.com"]))
def test_an_address_is_the_same_spoken_and_written(first: str, last: str, host: str) -> None:
    spoken = f"my email is {first} dot {last} at {host.replace('.', ' dot ')}"
    assert emails(spoken)[0].value == emails(f"{first}.{last}@{host}")[0].value


@pytest.mark.parametrize(
    ("said", "number"),
    [
        ("You can reach me at four one five, five five five, oh one three two.", "415-555-0132"),
        ("four one five double five five oh one three two", "415-555-0132"),
        ("You can reach me at 415-555-0132.", "415-555-0132"),
        ("(415) 555-0132", "415-555-0132"),
        ("415, 555, 0132", "415-555-0132"),
        ("4155550132", "415-555-0132"),
        ("one eight hundred five five five oh one nine nine", "800-555-0199"),
        ("plus one four one five five five five oh one three two", "+14155550132"),
        ("+44 20 7946 0958", "+442079460958"),
        ("555-0132", "555-0132"),
    ],
)
def test_each_way_of_giving_a_phone_number_is_read(said: str, number: str) -> None:
    assert [f.value for f in phones(said)] == [number]


@pytest.mark.parametrize(
    "said",
    [
        "$300,000 and 2,400",
        "2026-06-05",
        "my account number is 12345678",
        "740 2400",
        "three hundred thousand dollars",
    ],
)
def test_what_is_no_phone_number_gives_none(said: str) -> None:
    assert phones(said) == ()


@given(st.text("23456789", min_size=1, max_size=1), st.text("0123456789", min_size=9, max_size=9))
def test_a_phone_number_is_the_same_spoken_and_written(first: str, rest: str) -> None:
    digits = first + rest
    spoken = " ".join(_DIGITS[int(d)] for d in digits)
    assert phones(spoken)[0].value == f"{digits[:3]}-{digits[3:6]}-{digits[6:]}"
    assert run_of_digits(spoken) == digits


@pytest.mark.parametrize(
    ("said", "name"),
    [
        ("My name is Daniel Cooper, and I'm calling about the loan", "Daniel Cooper"),
        ("my name is daniel cooper and I want a loan", "Daniel Cooper"),
        ("this is Maria calling", "Maria"),
        ("I'm Daniel", "Daniel"),
        ("Daniel Cooper here", "Daniel Cooper"),
        ("my name is Siobhan O'Neil-Smith.", "Siobhan O'Neil-Smith"),
        ("Hi, this is John. My email is new", "John"),
        ("I am Ravi Patel from Boston", "Ravi Patel"),
        ("my name is Dan Cuper, C-O-O-P-E-R", "Dan Cooper"),
        ("my name's Anna M. Bell", "Anna M. Bell"),
    ],
)
def test_each_way_of_introducing_oneself_is_read(said: str, name: str) -> None:
    assert [f.value for f in names(said)] == [name]


@pytest.mark.parametrize(
    "said", ["I'm interested in a loan", "This is a test", "I'm calling about it", "It's T H one two"]
)
def test_what_introduces_nobody_gives_none(said: str) -> None:
    assert names(said) == ()


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("Yes, that's correct.", True),
        ("Okay, yes", True),
        ("Sure", True),
        ("no problem", True),
        ("I agree to be contacted", True),
        ("that's right", True),
        ("no, my email is another", False),
        ("actually, no", False),
        ("Not really", False),
        ("I'd rather not", False),
        ("hmm", None),
        ("I have a sore throat", None),
        ("Please verify my account", None),
    ],
)
def test_yes_and_no_are_told_by_how_the_sentence_begins(said: str, meant: bool | None) -> None:
    assert agreement(said) is meant


@pytest.mark.parametrize(
    ("said", "code"),
    [
        ("order A-1042 please", "A-1042"),
        ("ORD 10234", "ORD 10234"),
        ("one two three four five", "12345"),
        ("B dash 7 7 1", "B-771"),
    ],
)
def test_codes_are_read(said: str, code: str) -> None:
    assert codes(said)[0].value == code


@given(st.text())
def test_looking_for_entities_never_raises(text: str) -> None:
    found = [*emails(text), *phones(text), *names(text), *codes(text)]
    assert all(f.value for f in found)
    assert agreement(text) in {True, False, None}
