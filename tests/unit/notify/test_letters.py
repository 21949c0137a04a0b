"""The words of e-mails: every template, with all fields and with almost none, and hostile ones."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from jinja2 import StrictUndefined

from parley_common.contracts.people import Consent, Person
from parley_common.contracts.record import Fact
from parley_notify.letters import SUBJECT_CHARS_MAX, TEMPLATES, Letter, Letters, human, label, moment
from unit.notify.samples import (
    AT,
    bare_facts,
    business,
    captured,
    delivery,
    full_facts,
    opened,
    qualified,
    route,
)

VOID = {"meta", "br", "img", "link", "hr"}


class Structure(HTMLParser):
    """Checks that tags nest, and gathers links, text and everything that would be fetched."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.fetched: list[str] = []
        self.links: list[str] = []
        self.words: list[str] = []
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self.open.append(tag)
        for name, value in attrs:
            if tag == "a" and name == "href":
                self.links.append(str(value))
            elif name in {"src", "href", "background"} or "url(" in str(value):
                self.fetched.append(str(value))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)


@pytest.fixture
def letters(tmp_path: Path) -> Letters:
    return Letters({"harbor": business(tmp_path, route())}, undefined=StrictUndefined)


def write(letters: Letters, fact: Fact, **changes: Any) -> Letter:
    told = delivery(fact, **changes)
    assert told.payload is not None
    return letters.write(told, told.payload)


@pytest.mark.parametrize("fact", full_facts() + bare_facts(), ids=lambda fact: fact.fact_type)
def test_every_fact_makes_a_whole_letter_however_little_it_says(letters: Letters, fact: Fact) -> None:
    letter = write(letters, fact)
    assert letter.subject
    assert "\n" not in letter.subject
    assert "Harbor Lending (fictional)" in letter.text
    assert fact.key in letter.text
    assert fact.key in letter.html
    for text in (letter.subject, letter.text, letter.html):
        assert not re.search(r"\b(None|Undefined|null)\b|\{\{|\{%|datetime", text)
    assert "\n\n\n" not in letter.text


@pytest.mark.parametrize("fact", full_facts() + bare_facts(), ids=lambda fact: fact.fact_type)
def test_the_html_nests_and_fetches_nothing(letters: Letters, fact: Fact) -> None:
    letter = write(letters, fact)
    assert Structure(letter.html).fetched == []


@pytest.mark.parametrize("fact", full_facts(), ids=lambda fact: fact.fact_type)
@pytest.mark.parametrize("template", sorted(TEMPLATES))
def test_any_template_can_tell_any_fact(letters: Letters, template: str, fact: Fact) -> None:
    assert write(letters, fact, template=template).subject


def test_text_and_html_say_the_same_things(letters: Letters) -> None:
    letter = write(letters, captured(page="https://harbor.example.com/rates"))
    words = " ".join(Structure(letter.html).words)
    for said in (
        "Dana Reyes",
        "dana.reyes@example.com",
        "+13125550142",
        "Purchase price",
        "450,000",
        "25",
        "no",
    ):
        assert said in letter.text
        assert said in words
    assert "May we keep your details?" in letter.text
    assert "cash flow, refinance later" in words
    assert "Mon 5 Jan 2026, 11:00 CST" in words


def test_subjects_say_what_happened_to_whom_and_where(letters: Letters) -> None:
    subjects = {fact.fact_type.split(".v")[0]: write(letters, fact).subject for fact in full_facts()}
    assert subjects == {
        "parley.lead.captured": "New lead: Dana Reyes - Harbor Lending",
        "parley.lead.updated": "Lead updated: Dana Reyes - Harbor Lending",
        "parley.lead.qualified": "Qualified lead (hot, 86): Dana Reyes - Harbor Lending",
        "parley.lead.disqualified": "Lead not qualified (nurture, 22): Dana Reyes - Harbor Lending",
        "parley.lead.call_scheduled": "Call booked: Dana Reyes, Tue 6 Jan 2026, 11:00 CST - Harbor Lending",
        "parley.lead.erased": "Lead erased - Harbor Lending",
        "parley.case.opened": "[urgent] New call back: Escrow - Harbor Lending",
        "parley.case.updated": "Call back updated (in progress): Escrow - Harbor Lending",
        "parley.case.closed": "Call back closed: Called back. - Harbor Lending",
    }


def test_what_a_caller_says_is_text_and_never_markup(letters: Letters) -> None:
    hostile = Person(
        name="<script>alert(1)</script>", email='a"><img src=x>@example.com', phone="javascript:1"
    )
    letter = write(
        letters, captured(person=hostile, interest={"<b>k</b>": "<img src='http://x.example.com'>"})
    )
    structure = Structure(letter.html)
    assert structure.fetched == []
    assert "script" not in re.findall(r"<(\w+)", letter.html)
    assert all(link.startswith(("mailto:", "tel:")) for link in structure.links)
    assert "<script>alert(1)</script>" in letter.subject


def test_a_subject_stays_one_bounded_line_whatever_a_caller_says(letters: Letters) -> None:
    fact = opened(summary="first\r\nBcc: everyone@example.com\n\u202e" + "long " * 100)
    subject = write(letters, fact).subject
    assert subject.isprintable()
    assert len(subject) == SUBJECT_CHARS_MAX


def test_text_values_cannot_draw_lines_of_their_own(letters: Letters) -> None:
    letter = write(letters, captured(interest={"note": "ok\n\nConsent\n  Agreed"}))
    assert "  Note: ok Consent Agreed\n" in letter.text


def test_a_refused_consent_says_do_not_contact(letters: Letters) -> None:
    letter = write(letters, captured(consent=Consent(given=False, at=AT, wording="w")))
    assert "Not given: do not contact." in letter.text
    assert "do not contact" in letter.html


def test_a_business_that_is_gone_still_gets_its_letter() -> None:
    letter = write(Letters({}), qualified())
    assert "harbor" in letter.subject


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        ("", "–"),
        (True, "yes"),
        (2026, "2026"),
        (450_000, "450,000"),
        (-450_000, "-450,000"),
        (6.5, "6.5"),
        (1234.5, "1,234.5"),
        (0.0725, "0.0725"),
        ([], "–"),
        (["a", 2], "a, 2"),
        ({"zip_code": "60601", "units": 2}, "Zip code: 60601; Units: 2"),
    ],
)
def test_values_are_written_as_people_write_them(value: Any, text: str) -> None:
    assert human(value) == text


def test_field_names_are_written_as_words() -> None:
    assert label("loan_amount") == "Loan amount"
    assert label("follow-up") == "Follow up"
    assert label("") == ""


def test_moments_are_told_in_the_zone_and_unknown_zones_in_utc() -> None:
    when = datetime(2026, 7, 1, 17, 5, tzinfo=UTC)
    assert moment(when, "America/Chicago") == "Wed 1 Jul 2026, 12:05 CDT"
    assert moment(when, "Nowhere/Unknown") == "Wed 1 Jul 2026, 17:05 UTC"
    assert moment(when, "../../etc/passwd") == "Wed 1 Jul 2026, 17:05 UTC"
