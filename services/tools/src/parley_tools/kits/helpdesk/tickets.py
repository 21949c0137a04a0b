"""The helpdesk kit's tickets: opened in the right queue, and told, added to and closed only for whoever opened them."""

from __future__ import annotations

import hashlib
from datetime import datetime, timedelta

from parley_tools.kit import (
    Annotated,
    Case,
    CaseClosed,
    CaseOpened,
    CaseUpdated,
    DataPart,
    Field,
    JsonValue,
    Kept,
    NewCase,
    Output,
    Person,
    RecordKind,
    Refused,
    ToolContext,
    spoken_moment,
    tool,
    valid_email,
    valid_phone,
)
from parley_tools.kits.helpdesk._desk import ROUTING, WALKS, digits, opening, walk_of
from parley_tools.rules.helpdesk_routing import Priority, Routed, route

KIND = "ticket"
GRANT = "verified:ticket"
WRONG_MAX = 4
FORGOTTEN_AFTER = timedelta(hours=12)
NOTES_MAX = 20
SUMMARY_CHARS_MAX = 160


class TicketAttempts(DataPart):
    """Wrong answers about one ticket number."""

    wrong_count: int = 0
    last_at: datetime | None = None


ATTEMPTS = RecordKind("ticket_attempts", TicketAttempts)


@tool(
    cls="reversible",
    grants=(GRANT,),
    emits=(CaseOpened, CaseUpdated),
    data=(ROUTING,),
    records=(WALKS,),
    personal=("name", "email", "phone", "problem"),
)
async def open_ticket(
    ctx: ToolContext,
    problem: Annotated[
        str,
        Field(description="What is wrong, in the caller's words", min_length=3, max_length=1_000),
    ],
    name: Annotated[str, Field(description="The caller's full name", min_length=1, max_length=200)],
    email: Annotated[str, Field(description="The caller's e-mail address for updates", max_length=320)],
    phone: Annotated[
        str | None, Field(description="The caller's phone number with area code", max_length=40)
    ] = None,
    urgency: Annotated[
        Priority, Field(description="How urgent it is for the caller; normal when they do not say")
    ] = "normal",
) -> Output:
    """Open a ticket: report a problem or a complaint that people have to look into, such as a broken device, a fault or a
    wrong bill, when the caller can wait for an answer.
    """
    person = Person(name=" ".join(name.split()), email=valid_email(email), phone=_phone(ctx, phone))
    routed = route(ctx.data(ROUTING), problem, said=urgency)
    walk, _ = await walk_of(ctx)
    details: dict[str, JsonValue] = {"problem": problem, "answer_by": _answer_by(ctx, routed)}
    if walk is not None and walk.is_over:
        details |= walk.findings()
    for earlier in await ctx.cases.list(kind=KIND, of_session=True, is_open=True):
        if earlier.details.get("problem") == problem:  # said again, or with a corrected name or address
            await ctx.cases.update(earlier, person=person, priority=routed.priority)
            return _opened(ctx, earlier, routed, f"I changed ticket {digits(earlier.reference)}.")
    case = await ctx.cases.open(
        NewCase(
            kind=KIND,
            summary=problem[:SUMMARY_CHARS_MAX],
            person=person,
            priority=routed.priority,
            queue=routed.queue.name,
        ),
        details=details,
    )
    return _opened(ctx, case, routed, f"I opened ticket {digits(case.reference)} with {routed.queue.title}.")


@tool(
    cls="reversible",
    grants=(GRANT,),
    data=(ROUTING,),
    records=(ATTEMPTS,),
    personal=("email",),
)
async def check_ticket(
    ctx: ToolContext,
    ticket_number: Annotated[str, Field(description="The ticket number of six digits", max_length=20)],
    email: Annotated[str, Field(description="The e-mail address on the ticket", max_length=320)],
) -> Output:
    """Check the status of a ticket the caller opened before: who has it, and when it is answered. It also verifies whose
    ticket it is, as a note or closing it needs.
    """
    number = "".join(each for each in ticket_number if each.isdigit())
    attempts_id = hashlib.sha256(number.encode()).hexdigest()[:32]
    kept = await ctx.records.lock(ATTEMPTS, attempts_id)
    wrong_count = _recent(kept, ctx.now)
    if wrong_count >= WRONG_MAX:
        raise Refused(
            "That did not match too often. A colleague can help you further.",
            code="locked",
            next_tool="escalate_to_person",
        )
    case = await ctx.cases.find(number, kind=KIND) if len(number) == 6 else None
    if case is None or not case.email or case.email.lower() != email.strip().lower():
        counted = TicketAttempts(wrong_count=wrong_count + 1, last_at=ctx.now)
        await ctx.records.put(ATTEMPTS, attempts_id, counted)
        raise Refused(
            "I find no ticket with that number and e-mail address. Could you check both?",
            code="no_match",
            keeps_effects=True,
        )
    ctx.grant(f"{GRANT}-{case.reference}")
    return {**_output(case), "say": _status_said(ctx, case)}


@tool(
    cls="reversible",
    needs=(GRANT,),
    emits=(CaseUpdated,),
    personal=("note",),
)
async def add_ticket_note(
    ctx: ToolContext,
    note: Annotated[
        str, Field(description="What the caller wants to add to the ticket", min_length=2, max_length=1_000)
    ],
) -> Output:
    """Add a note to the caller's ticket: something more to tell about it. The ticket must have been opened or checked in
    this conversation.
    """
    case = await _verified(ctx)
    if case.closed_at is not None:
        raise Refused(
            "That ticket is closed. Shall I open a new one?", code="ticket_closed", next_tool="open_ticket"
        )
    notes = case.details.get("notes")
    before: list[JsonValue] = list(notes) if isinstance(notes, list) else []
    if note in before:
        return {**_output(case), "say": "That is in your ticket already."}
    if len(before) >= NOTES_MAX:
        raise Refused("That ticket is full of notes. A colleague will call you.", code="too_many_notes")
    await ctx.cases.update(case, details={"notes": [*before, note]})
    return {**_output(case), "say": f"I added that to ticket {digits(case.reference)}."}


@tool(cls="reversible", needs=(GRANT,), emits=(CaseClosed,))
async def close_ticket(ctx: ToolContext) -> Output:
    """Close the caller's ticket because it is settled and nobody needs to look into it any more. The ticket must have
    been opened or checked in this conversation.
    """
    case = await _verified(ctx)
    await ctx.cases.close(case, "The caller says that it is settled.")
    return {**_output(case), "say": f"Ticket {digits(case.reference)} is closed."}


async def _verified(ctx: ToolContext) -> Case:
    """Return the ticket that this session has verified last."""
    case = await ctx.cases.find(ctx.verified("ticket"), kind=KIND)
    if case is None:
        raise Refused("I don't find that ticket any more.", code="ticket_gone", next_tool="check_ticket")
    return case


def _phone(ctx: ToolContext, said: str | None) -> str | None:
    return valid_phone(said, str(ctx.setting("phone_region", "US"))) if said else None


def _recent(kept: Kept[TicketAttempts] | None, now: datetime) -> int:
    if kept is None or kept.data.last_at is None or now - kept.data.last_at > FORGOTTEN_AFTER:
        return 0
    return kept.data.wrong_count


def _answer_by(ctx: ToolContext, routed: Routed) -> str:
    """Return until when somebody answers: so many hours after the queue is next there."""
    moment, _ = opening(ctx, routed.queue)
    within = timedelta(hours=routed.queue.reply_hours[routed.priority])
    return spoken_moment((moment or ctx.now) + within, ctx.business.zone)


def _opened(ctx: ToolContext, case: Case, routed: Routed, told: str) -> Output:
    ctx.grant(f"{GRANT}-{case.reference}")
    by = case.details.get("answer_by")
    return {
        **_output(case),
        "queue": routed.queue.name,
        "priority": case.priority,
        "say": f"{told} Somebody answers by {by}.",
    }


def _output(case: Case) -> Output:
    return {
        "ticket_number": case.reference,
        "ticket_state": case.status,
        "queue": case.queue,
        "answer_by": case.details.get("answer_by"),
    }


def _status_said(ctx: ToolContext, case: Case) -> str:
    number = digits(case.reference)
    if case.closed_at is not None:
        return f"Ticket {number} was closed on {spoken_moment(case.closed_at, ctx.business.zone)}."
    title = ctx.data(ROUTING).queue(case.queue or "").title
    return f"Ticket {number} is with {title}. Somebody answers by {case.details.get('answer_by')}."
