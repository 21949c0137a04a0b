"""Making a business, trying it, and erasing a person: what the three commands decide, and what they refuse."""

from __future__ import annotations

import io
import json
import shutil
import sqlite3
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from harness.http_server import HttpServer, Reply, Request
from harness.ports import free_port
from parley_common.business import Finding, load
from parley_common.contracts.tool_calls import CALL_TYPE, RESULT_TYPE
from parley_common.kafka import Incoming
from parley_launcher.cli import main
from parley_launcher.commands.erase import what_is_left
from parley_launcher.commands.try_start import passed_on, running_place, runs_at
from parley_launcher.commands.try_view import Watcher
from parley_tools.commands import findings as kit_findings

ROOT = Path(__file__).parents[3]
NAMES = ("bank", "cap", "clinic", "helpdesk", "shop")
Parley = Callable[..., tuple[int, str, str]]


def of_the_kits(folder: Path) -> list[Finding]:
    return kit_findings(folder, "tools")


@pytest.fixture
def parley(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> Parley:
    """Run the command in this process, with a copy of the businesses and a state of its own."""
    shutil.copytree(ROOT / "businesses", tmp_path / "businesses")
    monkeypatch.setenv("PARLEY_BUSINESSES_DIR", str(tmp_path / "businesses"))
    monkeypatch.setenv("PARLEY_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("GATEWAY_PORT", str(free_port()))
    monkeypatch.setenv("COLUMNS", "200")
    # A process each, which the tests on `parley check` start: here the same is asked in this process.
    monkeypatch.setattr("parley_launcher.commands.check._with_its_services", of_the_kits)

    def run(*args: str, said: str = "") -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["parley", *args])
        monkeypatch.setattr(sys, "stdin", io.StringIO(said))
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capfd.readouterr()
        return int(ended.value.code or 0), out, err

    return run


# -- parley new -----------------------------------------------------------------------------------


@pytest.mark.parametrize("like", NAMES)
def test_a_new_business_is_valid_and_nothing_of_it_names_the_old_one(
    parley: Parley, tmp_path: Path, like: str
) -> None:
    old = load(ROOT / "businesses" / like).config
    code, out, _ = parley("new", "my-own", "--like", like, "--title", "Riverside Works", "--agent", "Robin")
    assert (code, "Edit next:" in out, "parley try my-own" in out) == (0, True, True)
    folder = tmp_path / "businesses" / "my-own"
    made = load(folder).config
    assert (made.name, made.title, made.agent.name) == ("my-own", "Riverside Works", "Robin")
    assert (made.fictional, made.tools) == (True, old.tools)
    texts = "\n".join(path.read_text() for path in folder.rglob("*") if path.is_file())
    assert old.title not in texts
    assert old.title.split()[0] not in texts
    assert old.title.split()[0].lower() + ".example.com" not in texts
    assert {path.relative_to(folder) for path in folder.rglob("*")} == {
        path.relative_to(ROOT / "businesses" / like) for path in (ROOT / "businesses" / like).rglob("*")
    }


def test_a_new_business_is_named_after_its_folder_when_nothing_else_is_said(
    parley: Parley, tmp_path: Path
) -> None:
    assert parley("new", "my-clinic", "--like", "clinic")[0] == 0
    made = load(tmp_path / "businesses" / "my-clinic").config
    assert (made.title, made.agent.name) == ("My Clinic", "Wren")


@pytest.mark.parametrize(
    ("args", "fault", "remedy"),
    [
        (("My-Shop", "--like", "shop"), "is no name for a business", "lower case"),
        (("../shop2", "--like", "shop"), "is no name for a business", "lower case"),
        (("x" * 33, "--like", "shop"), "is no name for a business", "at most 32"),
        (("new-shop", "--like", "shp"), "there is no business 'shp'", "did you mean shop?"),
        (("new-shop", "--like", "../etc"), "there is no business '../etc'", "there are bank, cap"),
        (("new-shop", "--like", "shop", "--title", "a: b"), "--title 'a: b' cannot be used", "letters"),
        (("new-shop", "--like", "shop", "--agent", "A B"), "--agent 'A B' cannot be used", "one word"),
        (("cap", "--like", "shop"), "exists already, and nothing is overwritten", "choose another name"),
    ],
)
def test_what_cannot_be_made_is_said_with_its_remedy_and_leaves_nothing(
    parley: Parley, tmp_path: Path, args: tuple[str, ...], fault: str, remedy: str
) -> None:
    before = sorted((tmp_path / "businesses").rglob("*"))
    code, _, err = parley("new", *args)
    assert code == 78
    assert fault in err
    assert remedy in err
    assert sorted((tmp_path / "businesses").rglob("*")) == before
    assert load(tmp_path / "businesses" / "cap").config.title == "Harborlight Lending"


def test_a_business_with_mistakes_is_not_copied(parley: Parley, tmp_path: Path) -> None:
    config = tmp_path / "businesses" / "shop" / "business.yaml"
    config.write_text(config.read_text().replace("time_zone:", "time_zona:"))
    code, _, err = parley("new", "my-shop", "--like", "shop")
    assert (code, "shop has mistakes itself" in err) == (78, True)
    assert not (tmp_path / "businesses" / "my-shop").exists()


def test_pictures_are_copied_as_they_are_and_hidden_files_not_at_all(parley: Parley, tmp_path: Path) -> None:
    shop = tmp_path / "businesses" / "shop"
    (shop / "data" / "logo.png").write_bytes(b"\x89PNG\xff\x00Larkmoor")
    (shop / ".notes").write_text("mine")
    assert parley("new", "my-shop", "--like", "shop")[0] == 0
    made = tmp_path / "businesses" / "my-shop"
    assert (made / "data" / "logo.png").read_bytes() == b"\x89PNG\xff\x00Larkmoor"
    assert not (made / ".notes").exists()


# -- parley try -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "fault", "remedy"),
    [
        (("shopp", "--text", "Hello"), "there is no business 'shopp'", "did you mean shop?"),
        (("shop",), "there is nothing to say", "give --text"),
    ],
)
def test_what_cannot_be_tried_is_said_with_its_remedy(
    parley: Parley, args: tuple[str, ...], fault: str, remedy: str
) -> None:
    code, _, err = parley("try", *args)
    assert (code, fault in err, remedy in err) == (78, True, True)


def test_a_business_with_mistakes_is_not_tried_and_each_is_said_with_its_line(
    parley: Parley, tmp_path: Path
) -> None:
    config = tmp_path / "businesses" / "shop" / "business.yaml"
    config.write_text(config.read_text() + "\nshoes: 2\n")
    code, out, err = parley("try", "shop", "--text", "Hello")
    assert (code, "has mistakes" in err) == (78, True)
    assert "business.yaml:" in out
    assert "shoes" in out


def test_trying_costs_nothing_and_writes_to_nobody() -> None:
    given = {
        "OPENAI_API_KEY": "sk-1",
        "SESSION_UPSTREAM_URL": "wss://api.example.com",
        "NOTIFY_SMTP_HOST": "mail.example.com",
        "TOOLS_DATABASE_URL": "postgresql://db.example.com/parley",
        "KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:9092",
        "LANG": "C.UTF-8",
    }
    assert set(passed_on(given)) == {"KAFKA_BOOTSTRAP_SERVERS", "LANG"}


def gateway_of(*businesses: str) -> Callable[[Request], Reply]:
    """A gateway that is ready and hands out tokens for these businesses."""

    def answer(request: Request) -> Reply:
        if request.method == "GET":
            return Reply()
        if json.loads(request.body)["business"] in businesses:
            return Reply(201, b'{"token": "t-1"}')
        return Reply(404, b'{"error": {"code": "unknown_business", "message": "no such business"}}')

    return answer


async def test_a_parley_that_runs_is_used_only_when_it_knows_the_business(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("parley_launcher.commands.try_start.TAKEN_IN_DEADLINE_S", 0.0)
    assert not runs_at(f"http://127.0.0.1:{free_port()}")
    with HttpServer(gateway_of("cap")) as gateway:
        assert runs_at(gateway.url)
        found = await running_place(gateway.url, "cap")
        assert found is not None
        assert found.url == gateway.url
        assert await running_place(gateway.url, "shop") is None


def told(kind: str, **value: Any) -> Incoming:
    headers = (("ce_type", kind.encode()), ("ce_time", datetime.now(UTC).isoformat().encode()))
    return Incoming("topic", 0, 0, b"key", json.dumps(value).encode(), headers, 0)


def test_calls_are_shown_with_arguments_and_refusals_with_what_they_want_first() -> None:
    watcher = Watcher(print)
    watcher.session = "s-1"
    call = {"session_id": "s-1", "tool": "refill", "arguments": {"medicine": "Zyrtec", "count": 2}}
    line = watcher.line(told(CALL_TYPE, **call))
    assert line is not None
    assert line.plain.strip() == 'tool    refill(medicine="Zyrtec", count=2)'
    again = watcher.line(told(CALL_TYPE, **call, attempt=2))
    assert again is not None
    assert again.plain.endswith("(attempt 2)")
    error = {"code": "needs_verified:patient", "say": "Who are you?", "next": {"tool": "verify_patient"}}
    refused = {"tool": "refill", "status": "refused", "code": error["code"], "output": {"error": error}}
    line = watcher.line(told(RESULT_TYPE, session_id="s-1", took_ms=3, **refused))
    assert line is not None
    assert (
        line.plain.strip() == "refill → refused needs_verified:patient; first: verify_patient: “Who are you?”"
    )
    fine = {"tool": "refill", "status": "ok", "took_ms": 12, "output": {"say": "Done."}}
    line = watcher.line(told(RESULT_TYPE, session_id="s-1", **fine))
    assert line is not None
    assert line.plain.strip() == "refill → ok, 12 ms"


@pytest.mark.parametrize("session", [None, "s-2"])
def test_nothing_of_another_session_is_shown(session: str | None) -> None:
    watcher = Watcher(print)
    watcher.session = session
    assert watcher.line(told(CALL_TYPE, session_id="s-1", tool="refill", arguments={})) is None


# -- parley erase ---------------------------------------------------------------------------------

LEAD = (
    "INSERT INTO leads (lead_id, business, session_id, name, email, consent_at, consent_wording, interest,"
    " channel, created_at, updated_at) VALUES ('lead-1', 'cap', 's-1', 'Ann Lee', 'ann.lee@example.com',"
    " '2026-01-05 10:00:00', 'May we?', '{}', 'cli', '2026-01-05 10:00:00', '2026-01-05 10:00:00')"
)
CASE = (
    "INSERT INTO cases (case_id, business, session_id, kind, status, priority, reference, summary, phone,"
    " details, opened_at, updated_at) VALUES ('case-1', 'clinic', 's-2', 'appointment', 'booked', 'normal',"
    " '123456', 'Ann Lee, check-up', '+13125550123', '{}', '2026-01-05 10:00:00', '2026-01-05 10:00:00')"
)


@pytest.fixture
def rows(parley: Parley, tmp_path: Path) -> Callable[..., list[Any]]:
    """A migrated database in the state folder, and how to ask it."""
    assert parley("migrate")[0] == 0

    def ask(query: str) -> list[Any]:
        with sqlite3.connect(tmp_path / "state" / "tools.db") as database:
            return database.execute(query).fetchall()

    return ask


def test_a_person_is_erased_after_a_yes_and_what_is_left_elsewhere_is_said(
    parley: Parley, rows: Callable[..., list[Any]]
) -> None:
    rows(LEAD)
    code, out, _ = parley("erase", "cap", "--lead", "lead-1", said="n\n")
    assert (code, "1 lead" in out) == (1, True)
    assert rows("SELECT count(*) FROM leads") == [(1,)]
    code, out, _ = parley("erase", "cap", "--lead", "lead-1", said="y\n")
    assert code == 0
    for words in ("erased 1 lead", "parley.lead.erased", "parley.lead.events and parley.case.events 30 d"):
        assert words in out
    assert rows("SELECT count(*) FROM leads") == [(0,)]
    assert rows("SELECT count(*) FROM erased_subjects") == [(1,)]
    (headers,) = rows("SELECT headers FROM outbox")
    assert "parley.lead.erased.v1" in headers[0]
    code, out, _ = parley("erase", "cap", "--lead", "lead-1", "--yes")
    assert (code, out.strip()) == (0, "cap has nothing of lead-1")


def test_a_phone_number_is_read_as_the_business_reads_it_and_counting_changes_nothing(
    parley: Parley, rows: Callable[..., list[Any]]
) -> None:
    rows(CASE)
    code, out, _ = parley("erase", "clinic", "(312) 555-0123", "--dry-run")
    assert (code, out.strip()) == (0, "(312) 555-0123 in clinic: 1 case")
    assert rows("SELECT summary FROM cases") == [("Ann Lee, check-up",)]
    code, out, _ = parley("erase", "clinic", "(312) 555-0123", "--yes")
    assert (code, "erased 1 case" in out, "no parley.lead.erased" in out) == (0, True, True)
    assert rows("SELECT summary, phone FROM cases") == [("(erased)", None)]


@pytest.mark.parametrize(
    ("subject", "fault"),
    [
        ("ann", "neither an e-mail address nor a phone number"),
        ("ann@", "email is not valid"),
        ("12", "phone is not valid"),
    ],
)
def test_a_subject_that_nobody_could_be_is_said(parley: Parley, subject: str, fault: str) -> None:
    code, _, err = parley("erase", "cap", subject, "--yes")
    assert (code, fault in err) == (78, True)


def test_a_database_that_is_not_there_is_said(parley: Parley) -> None:
    code, _, err = parley("erase", "cap", "ann.lee@example.com", "--yes")
    assert (code, "not there or not migrated" in err, "parley migrate" in err) == (78, True, True)


def test_without_a_lead_nobody_is_told_and_that_is_said() -> None:
    assert "no parley.lead.erased" in "\n".join(what_is_left(0))
    assert "no parley.lead.erased" not in "\n".join(what_is_left(2))
