"""What the search finds: thirty questions per business worded unlike its articles, and articles of every format.

A question's file is knowledge_questions/<business>.yaml; recall@3 is printed at the end of the run and has a floor.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from pypdf import PdfWriter
from pypdf.generic import DecodedStreamObject, DictionaryObject, NameObject

from parley_common.business import load
from parley_common.errors import ConfigInvalid
from parley_tools.articles import articles_in, read_article
from parley_tools.kits.knowledge import index_of
from parley_tools.rules.passages import Index, Passage
from unit.tools.world import CAP, business_with

QUESTIONS = Path(__file__).parent / "knowledge_questions"
GOAL = 0.9
SETS = sorted(path.stem for path in QUESTIONS.glob("*.yaml"))


def questions(name: str) -> list[dict[str, Any]]:
    read: list[dict[str, Any]] = yaml.safe_load((QUESTIONS / f"{name}.yaml").read_text())
    return read


@pytest.mark.parametrize("name", SETS)
def test_callers_questions_find_the_article_about_them(name: str, remark: Callable[[str], None]) -> None:
    business = load(CAP.parent / name.removesuffix("_held_out"))
    index, asked = index_of(business), questions(name)
    missed = []
    for each in asked:
        found = {hit.passage.source.split(",")[0] for hit in index.find(each["question"], 3)}
        if not found & set(each["sources"]):
            missed.append(each["question"])
    recall = 1 - len(missed) / len(asked)
    remark(f"knowledge of {name}: recall@3 {recall:.2f} of {len(asked)} questions; missed: {missed}")
    assert recall >= GOAL


@pytest.mark.parametrize("name", SETS)
def test_every_question_names_articles_that_there_are(name: str) -> None:
    folder = CAP.parent / name.removesuffix("_held_out") / "knowledge"
    asked = questions(name)
    assert len({each["question"] for each in asked}) == len(asked) >= (12 if "held_out" in name else 30)
    for each in asked:
        assert each["sources"]
        assert all((folder / source).is_file() for source in each["sources"]), each


HTML = """<!doctype html><html><head><title>Returns | Shop</title><style>p{}</style></head><body>
<nav><a href="/">Home</a></nav><h1>Returns</h1><p>Keep the <b>box</b>.</p><script>var x = "spy";</script>
<h2>How long you have</h2><ul><li>Thirty days from</li><li>delivery</li></ul><h2>Empty</h2></body></html>"""


def test_html_is_cut_at_its_headings_without_scripts_and_navigation(tmp_path: Path) -> None:
    path = tmp_path / "returns.html"
    path.write_text(HTML)
    assert read_article(path, "returns.html") == [
        Passage("Returns", "Returns", "returns.html", "Keep the box ."),
        Passage("Returns", "How long you have", "returns.html", "Thirty days from delivery"),
    ]


def test_text_has_its_first_line_as_its_title_and_a_passage_per_paragraph(tmp_path: Path) -> None:
    path = tmp_path / "opening-hours.txt"
    path.write_text("Opening hours\n\nWe open at nine.\nAlways.\n\nOn Sundays we do not.\n")
    assert [(p.title, p.text) for p in read_article(path, "opening-hours.txt")] == [
        ("Opening hours", "We open at nine. Always."),
        ("Opening hours", "On Sundays we do not."),
    ]
    path.write_text("One line only.")
    assert [p.text for p in read_article(path, "opening-hours.txt")] == ["One line only."]


def make_pdf(path: Path, *pages: str) -> None:
    writer = PdfWriter()
    font = DictionaryObject(
        {
            NameObject("/Type"): NameObject("/Font"),
            NameObject("/Subtype"): NameObject("/Type1"),
            NameObject("/BaseFont"): NameObject("/Helvetica"),
        }
    )
    for text in pages:
        page = writer.add_blank_page(300, 300)
        fonts = DictionaryObject({NameObject("/F1"): font})
        page[NameObject("/Resources")] = DictionaryObject({NameObject("/Font"): fonts})
        stream = DecodedStreamObject()
        stream.set_data(f"BT /F1 12 Tf 20 200 Td ({text}) Tj ET".encode())
        page[NameObject("/Contents")] = writer._add_object(stream)
    writer.add_metadata({"/Title": "Warranty"})
    with path.open("wb") as file:
        writer.write(file)


def test_a_pdf_is_cut_at_its_pages_and_says_on_which_one_it_stands(tmp_path: Path) -> None:
    make_pdf(tmp_path / "warranty.pdf", "Two years on the frame.", "Batteries last one year.")
    passages = articles_in(tmp_path)
    assert [(p.title, p.source, p.text) for p in passages] == [
        ("Warranty", "warranty.pdf, page 1", "Two years on the frame."),
        ("Warranty", "warranty.pdf, page 2", "Batteries last one year."),
    ]
    (found,) = Index(passages).find("how long does the battery last", 1)
    assert found.passage.source == "warranty.pdf, page 2"


@pytest.mark.parametrize(
    ("name", "content"), [("a.pdf", b"%PDF-1.7 nothing"), ("a.md", b"\xff\xfe\xff"), ("a.txt", b"\xff\xff")]
)
def test_an_article_that_cannot_be_read_is_named(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ConfigInvalid, match=rf"{name}: cannot be read as an article"):
        articles_in(tmp_path)


def test_a_changed_article_is_found_by_the_next_version_of_the_business(tmp_path: Path) -> None:
    business = business_with(tmp_path, "search_knowledge_base")
    (before,) = index_of(business).find("do you lend on houseboats", 1)
    assert before.passage.source == "appraisals.md"
    (business.folder / "knowledge" / "houseboats.md").write_text("# Houseboats\n\nWe lend on houseboats.\n")
    (found,) = index_of(load(business.folder)).find("do you lend on houseboats", 1)
    assert found.passage.source == "houseboats.md"


def test_each_article_is_found_once_by_its_best_passage() -> None:
    passages = [
        Passage("Tents", "Poles", "tents.md", "A tent has poles."),
        Passage(
            "Tents", "Tent pegs", "tents.md", "A tent has tent pegs, and a tent stands by its tent pegs."
        ),
        Passage("Stoves", "Stoves", "stoves.md", "No stove inside a tent, nor near its pegs."),
    ]
    found = Index(passages).find("tent pegs", 3)
    assert [(hit.passage.source, hit.passage.heading) for hit in found] == [
        ("tents.md", "Tent pegs"),
        ("stoves.md", "Stoves"),
    ]


def test_a_businesss_own_words_stand_for_each_other() -> None:
    passages = [
        Passage("Gowns", "Gowns", "g.md", "Bring the gown back by noon."),
        Passage("A", "A", "a.md", "B."),
    ]
    assert Index(passages).find("frock", 1) == []
    (found,) = Index(passages, [("frock", "gown")]).find("frock", 1)
    assert found.passage.source == "g.md"
