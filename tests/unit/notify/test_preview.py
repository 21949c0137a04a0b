"""Samples for previews, templates on full and bare facts, and the program that `parley preview` and `check` run."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from parley_common.contracts.export import read_samples
from parley_common.contracts.facts import BY_TYPE
from parley_common.contracts.record import read_contract
from parley_notify import preview
from parley_notify.intake import HEARD
from parley_notify.letters import TEMPLATES
from parley_notify.routes import fact_name
from unit.notify.samples import business, route

DOCS = Path(__file__).parents[3] / "docs"
RECORDS = [
    (kind, name)
    for kind, records in read_samples(DOCS).items()
    for name in records
    if fact_name(kind) in HEARD
]


def test_there_is_a_sample_of_every_fact_that_has_a_letter() -> None:
    assert preview.FULL.keys() == preview.BARE.keys() == TEMPLATES


@pytest.mark.parametrize("bare", [False, True])
@pytest.mark.parametrize("name", sorted(TEMPLATES))
def test_every_sample_becomes_a_letter_without_remote_parts(name: str, bare: bool, tmp_path: Path) -> None:
    harbor = business(tmp_path, route())
    letter = preview.preview(preview.sample(name, "harbor", bare=bare), harbor)
    assert letter.subject.strip()
    assert not re.search(r"<(img|script|link|iframe|object|embed)\b|url\(|@import", letter.html)
    assert "None" not in letter.text
    assert "Undefined" not in letter.text + letter.html


@pytest.mark.parametrize(("kind", "name"), RECORDS)
def test_every_committed_record_of_version_1_still_becomes_a_letter(
    kind: str, name: str, tmp_path: Path
) -> None:
    value = json.dumps(read_samples(DOCS)[kind][name]["value"]).encode()
    fact = read_contract(BY_TYPE[kind], value)
    assert preview.preview(fact, business(tmp_path, route())).subject


def test_the_program_prints_the_text_and_writes_the_html(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = business(tmp_path / "b", route()).folder
    page = tmp_path / "out" / "page.html"
    assert preview.main(["preview", "lead.qualified", str(folder), "--html", str(page)]) == 0
    said = capsys.readouterr().out
    assert said.startswith("Subject: Qualified lead (hot, 87): Ada Example - Harbor Lending\n\n")
    assert "Offer: 30-year fixed" in said
    assert "<h1" in page.read_text()


def test_a_letter_that_does_not_exist_is_refused_with_those_that_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = business(tmp_path, route()).folder
    assert preview.main(["preview", "lead.praised", str(folder)]) == 78
    assert "lead.qualified" in capsys.readouterr().err


def test_the_check_prints_findings_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = business(tmp_path, route(template="lead.praised")).folder
    assert preview.main(["check", "--json", str(folder)]) == 1
    (line,) = capsys.readouterr().out.splitlines()
    finding = json.loads(line)
    assert (finding["severity"], finding["file"]) == ("error", str(folder / "business.yaml"))
    assert finding["line"] > 1
    assert "lead.praised" in finding["message"]
