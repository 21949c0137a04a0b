"""A business folder: everything wrong in it is said with file and line, all at once."""

from __future__ import annotations

from datetime import time
from pathlib import Path

import pytest

from parley_common import business as module
from parley_common.business import check, load, load_all
from parley_common.errors import ConfigInvalid

GOOD = """\
name: bakery
title: Example Bakery
time_zone: Europe/Berlin
agent:
  name: Bea
tools: [save_lead, shop.find_bread]
hours:
  monday: ["09:00-12:30", "13:30-18:00"]
routes:
  - name: sales
    facts: [lead.captured]
    channel: email
    to: sales@example.com
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "bakery"
    (made / "data").mkdir(parents=True)
    (made / "business.yaml").write_text(GOOD)
    (made / "prompt.md").write_text("You are Bea of Example Bakery.\n")
    return made


def said(folder: Path) -> list[str]:
    """What is found, with paths as the folder sees them."""
    return [str(finding).replace(f"{folder}/", "") for finding in check(folder)]


def spoil(folder: Path, old: str, new: str) -> None:
    text = (folder / "business.yaml").read_text()
    assert old in text
    (folder / "business.yaml").write_text(text.replace(old, new))


def test_a_good_business_is_read_whole(folder: Path) -> None:
    business = load(folder)
    assert said(folder) == []
    assert (business.name, business.prompt) == ("bakery", "You are Bea of Example Bakery.")
    assert business.zone.key == "Europe/Berlin"
    assert business.config.hours.on(0) == (
        (time(9), time(12, 30)),
        (time(13, 30), time(18)),
    )
    assert business.config.hours.on(6) == ()


def test_all_mistakes_are_said_at_once_each_with_its_file_and_line(folder: Path) -> None:
    spoil(folder, "time_zone: Europe/Berlin", "time_zone: Europe/Nowhere")
    spoil(folder, "  name: Bea", "  nmae: Bea")
    spoil(folder, "find_bread]", "find_bread, save_lead]")
    spoil(folder, '"13:30-18:00"', '"18:00-13:30"')
    spoil(folder, "lead.captured", "lead.adored")
    spoil(folder, "name: bakery", "name: baker")
    (folder / "prompt.md").write_text(" \n")
    lines = said(folder)
    places = [line.split(": ")[0] for line in lines]
    assert places == [f"business.yaml:{n}" for n in (1, 3, 4, 5, 6, 8, 11)] + ["prompt.md"]
    assert "name is 'baker' but the folder is 'bakery'" in lines[0]
    assert "no such time zone: Europe/Nowhere" in lines[1]
    assert "agent.name: Field required" in lines[2]
    assert "agent.nmae: Extra inputs are not permitted" in lines[3]
    assert "a tool is named twice" in lines[4]
    assert "closes before it opens" in lines[5]
    assert "unknown facts lead.adored; known are" in lines[6]
    assert "is empty" in lines[7]


@pytest.mark.parametrize(
    ("old", "new", "line", "words"),
    [
        ("to: sales@example.com", "template: x", 10, "needs `to`"),
        ("channel: email", "channel: fax", 12, "'email', 'webhook', 'slack'"),
        ("[save_lead,", "[Save-Lead,", 6, "'Save-Lead' is not a tool name"),
        ('"09:00-12:30"', '"9-12"', 8, "is not like 09:00-17:30"),
        ('"09:00-12:30"', '"25:00-26:00"', 8, "hour must be in 0..23"),
        (
            "agent:",
            "voice: {turn_detection: {type: server_vad, threshold: 7}}\nagent:",
            4,
            "less than or equal",
        ),
        ("agent:", "limits: {session_max_s: 5}\nagent:", 4, "greater than or equal to 30"),
        ("title: Example Bakery", "title: [", 4, "not YAML"),
        ("title: Example Bakery", "title: One\ntitle: Two", 3, "title: stands here twice"),
        ("    channel: email", "    channel: webhook\n    channel: email", 13, "channel: stands here twice"),
    ],
)
def test_a_mistake_is_said_with_its_line(folder: Path, old: str, new: str, line: int, words: str) -> None:
    spoil(folder, old, new)
    (finding,) = said(folder)
    assert finding.startswith(f"business.yaml:{line}: error: ")
    assert words in finding


@pytest.mark.parametrize("word", ["2026-05-01", "2026-13-45"])
def test_what_looks_like_a_date_is_a_word_like_any_other(folder: Path, word: str) -> None:
    spoil(folder, "title: Example Bakery", f"title: {word}\nsettings: {{opens: {word}}}")
    config = load(folder).config
    assert (config.title, config.settings) == (word, {"opens": word})


def test_two_routes_of_one_name_are_an_error(folder: Path) -> None:
    text = (folder / "business.yaml").read_text()
    route = text[text.index("  - name: sales") :]
    (folder / "business.yaml").write_text(text + route)
    (finding,) = said(folder)
    assert finding == "business.yaml:9: error: routes: Value error, two routes share a name"


def test_files_that_are_missing_or_empty_are_said(folder: Path) -> None:
    (folder / "prompt.md").unlink()
    (folder / "business.yaml").write_text("")
    config, prompt = said(folder)
    assert config.startswith("business.yaml: error: ")
    assert prompt.startswith("prompt.md: error: cannot be read")
    (folder / "business.yaml").unlink()
    assert said(folder)[0].startswith("business.yaml: error: cannot be read")


def test_a_file_that_is_not_text_is_said(folder: Path) -> None:
    (folder / "prompt.md").write_bytes(b"\xff\xfe\x00")
    assert said(folder)[0].startswith("prompt.md: error: cannot be read")


def test_a_prompt_of_over_500_words_is_a_warning_and_loads(folder: Path) -> None:
    (folder / "prompt.md").write_text("word " * 501)
    (finding,) = check(folder)
    assert (finding.severity, finding.file.name) == ("warning", "prompt.md")
    assert "501 words" in finding.message
    assert load(folder).prompt.startswith("word")
    (folder / "prompt.md").write_text("word " * module.PROMPT_WORDS_MAX)
    assert check(folder) == []


def test_loading_names_the_first_mistake_and_how_many_more_there_are(folder: Path) -> None:
    spoil(folder, "time_zone: Europe/Berlin", "time_zone: Europe/Nowhere")
    spoil(folder, "lead.captured", "lead.adored")
    with pytest.raises(ConfigInvalid) as refused:
        load(folder)
    assert str(refused.value).startswith(f"{folder}/business.yaml:3: error: time_zone")
    assert "and 1 more: parley check" in str(refused.value)
    assert len(str(refused.value).splitlines()) == 1


def test_the_version_changes_with_any_byte_of_the_folder_and_with_nothing_else(folder: Path) -> None:
    before = load(folder).version
    assert load(folder).version == before
    (folder / "data" / "prices.yaml").write_text("bread: 3\n")
    with_prices = load(folder).version
    (folder / "data" / "prices.yaml").write_text("bread: 4\n")
    assert len({before, with_prices, load(folder).version}) == 3
    (folder / "data" / "prices.yaml").unlink()
    (folder / ".editor-swap").write_text("x")
    assert load(folder).version == before


def test_data_is_parsed_and_a_mistake_in_it_names_the_file(folder: Path) -> None:
    (folder / "data" / "prices.yaml").write_text("bread: 3\n")
    assert load(folder).data("prices.yaml") == {"bread": 3}
    (folder / "data" / "prices.yaml").write_text("bread: [\n")
    for name in ("prices.yaml", "missing.yaml"):
        with pytest.raises(ConfigInvalid, match=name):
            load(folder).data(name)


def test_all_businesses_are_found_by_name_and_none_at_all_is_an_error(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "notes").mkdir()
    assert list(load_all(tmp_path)) == ["bakery"]
    with pytest.raises(ConfigInvalid, match="PARLEY_BUSINESSES_DIR"):
        load_all(tmp_path / "notes")
