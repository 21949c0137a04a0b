"""The leads kit: keeping a consenting caller's details, and scoring them by the business's declared rules."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, JsonValue

from parley_common.contracts.leads import LeadCaptured, LeadDisqualified, LeadQualified, LeadUpdated
from parley_common.contracts.people import Consent, Person
from parley_common.errors import ToolRefused
from parley_tools import leads
from parley_tools.context import ToolContext
from parley_tools.files import DataFile
from parley_tools.registry import Output, tool
from parley_tools.rules.scoring import Score, ScoringRules, score
from parley_tools.store import Lead

SCORING = DataFile("scoring.yaml", ScoringRules)
CONSENT_GRANT = "consent:contact"
DEFAULT_REGION = "US"
ANALYSIS_FACTS = ("price_usd", "down_payment_pct", "dscr", "loan_to_value_pct", "loan_usd")
"""What an earlier analysis of this session tells about the lead."""


@tool(
    cls="reversible",
    deadline_ms=5_000,
    grants=(CONSENT_GRANT,),
    emits=(LeadCaptured, LeadUpdated),
    personal=("name", "email", "phone", "notes"),
)
async def save_lead(
    ctx: ToolContext,
    name: Annotated[str, Field(description="The caller's full name", min_length=1, max_length=200)],
    consent: Annotated[
        bool,
        Field(
            description="Whether the caller agrees that we keep these details and contact them about this; "
            "true only after they were asked and said yes"
        ),
    ],
    email: Annotated[
        str | None,
        Field(
            description="The caller's e-mail address; an e-mail or a phone number is needed", max_length=320
        ),
    ] = None,
    phone: Annotated[
        str | None, Field(description="The caller's phone number with area code", max_length=40)
    ] = None,
    product: Annotated[
        str | None, Field(description="The loan or service the caller is interested in", max_length=120)
    ] = None,
    price_usd: Annotated[
        float | None,
        Field(description="Price of the property the caller has in mind, in dollars", gt=0, le=1e9),
    ] = None,
    credit_score: Annotated[
        int | None, Field(description="The caller's credit score", ge=300, le=850)
    ] = None,
    timeline: Annotated[
        str | None, Field(description="How soon the caller wants to go ahead", max_length=120)
    ] = None,
    notes: Annotated[
        str | None, Field(description="Anything else worth passing on to a colleague", max_length=1_000)
    ] = None,
) -> Output:
    """Save the contact details of a caller who is interested and wants to be contacted: name, e-mail and phone
    number. Read them back and ask for permission first.

    After it succeeded, call score_lead with the lead_id it returns.
    """
    if not consent:
        raise ToolRefused(_consent_question(ctx), code="consent_required")
    if not email and not phone:
        raise ToolRefused("What is the best e-mail address or phone number for you?", code="contact_needed")
    region = str(ctx.setting("phone_region", DEFAULT_REGION))
    person = Person(
        name=" ".join(name.split()),
        email=leads.valid_email(email) if email else None,
        phone=leads.valid_phone(phone, region) if phone else None,
    )
    said = {
        "product": product,
        "price_usd": price_usd,
        "credit_score": credit_score,
        "timeline": timeline,
        "notes": notes,
    }
    interest: dict[str, Any] = await _from_analysis(ctx)
    interest |= {key: value for key, value in said.items() if value is not None}
    saved = await leads.save(
        ctx.db,
        ctx.where,
        leads.Details(
            person, ctx.business.config.consent.wording, interest, ctx.caller.channel, ctx.caller.page
        ),
    )
    await _tell_saved(ctx, saved)
    ctx.grant(CONSENT_GRANT)
    return {
        "lead_id": saved.lead.lead_id,
        "merged": not saved.is_new,
        "next": {"tool": "score_lead", "arguments": {"lead_id": saved.lead.lead_id}},
        "say": f"Thanks {_first_name(saved.lead)}, I have your details.",
    }


@tool(cls="reversible", deadline_ms=5_000, emits=(LeadQualified, LeadDisqualified), data=(SCORING,))
async def score_lead(
    ctx: ToolContext,
    lead_id: Annotated[
        str, Field(description="The lead_id that save_lead returned", min_length=1, max_length=64)
    ],
    credit_score: Annotated[
        int | None, Field(description="The caller's credit score", ge=300, le=850)
    ] = None,
    dscr: Annotated[
        float | None, Field(description="Debt service coverage ratio of the deal", ge=-10, le=100)
    ] = None,
    down_payment_pct: Annotated[
        float | None, Field(description="Down payment as a percentage of the price", ge=0, le=100)
    ] = None,
    timeline: Annotated[
        str | None, Field(description="How soon the caller wants to go ahead", max_length=120)
    ] = None,
) -> Output:
    """Score a saved lead and find the right offer. Call it right after save_lead, and again when a saved caller
    tells something new about their credit, deal or timeline.
    """
    lead = await leads.of_session(ctx.db, ctx.where, lead_id)
    if lead is None:
        raise ToolRefused(
            "I don't have those details yet. May I take your name and e-mail?", code="lead_not_found"
        )
    said = {
        "credit_score": credit_score,
        "dscr": dscr,
        "down_payment_pct": down_payment_pct,
        "timeline": timeline,
    }
    facts = lead.interest | await _from_analysis(ctx)
    facts |= {key: value for key, value in said.items() if value is not None}
    rules = ctx.data(SCORING)
    scored = score(rules, facts)
    is_news = (lead.score, lead.disposition, lead.rules_version) != (
        scored.points,
        scored.disposition.name,
        rules.version,
    )
    if is_news:
        await _tell_scored(ctx, lead, facts, scored, rules.version)
    reasons: list[JsonValue] = list(scored.reasons)
    unknown: list[JsonValue] = list(scored.unknown)
    return {
        "lead_id": lead.lead_id,
        "score": scored.points,
        "disposition": scored.disposition.name,
        "qualified": scored.disposition.qualifies,
        "reasons": reasons,
        "unknown": unknown,
        "offer": scored.disposition.offer,
        "say": scored.disposition.say,
    }


def _first_name(lead: Lead) -> str:
    return (lead.name or "").split(" ")[0] or "you"


def _consent_question(ctx: ToolContext) -> str:
    wording = ctx.business.config.consent.wording.strip()
    return wording if wording.endswith("?") else f"{wording.rstrip('.')}. Is that all right?"


async def _from_analysis(ctx: ToolContext) -> dict[str, Any]:
    """Return what this session's last deal analysis says; a caller who gives details means that deal."""
    analysis = await ctx.earlier("analyze_deal") or {}
    return {key: analysis[key] for key in ANALYSIS_FACTS if analysis.get(key) is not None}


async def _tell_saved(ctx: ToolContext, saved: leads.Saved) -> None:
    lead, person = saved.lead, leads.person_of(saved.lead)
    if not saved.changed:
        return
    seq = await ctx.next_seq(lead.lead_id)
    if saved.is_new:
        await ctx.emit(
            LeadCaptured(
                lead_id=lead.lead_id,
                seq=seq,
                business=lead.business,
                session_id=ctx.session_id,
                at=ctx.now,
                person=person,
                consent=Consent(
                    given=True, at=ctx.now, wording=lead.consent_wording, channels=_channels(person)
                ),
                interest=lead.interest,
                channel=lead.channel,
                page=lead.page,
            )
        )
        return
    await ctx.emit(
        LeadUpdated(
            lead_id=lead.lead_id,
            seq=seq,
            business=lead.business,
            session_id=ctx.session_id,
            at=ctx.now,
            person=person,
            interest=lead.interest,
            changed=saved.changed,
        )
    )


def _channels(person: Person) -> Any:
    """They agreed to be reached by what they gave."""
    return tuple(channel for channel in ("email", "phone") if getattr(person, channel))


async def _tell_scored(
    ctx: ToolContext, lead: Lead, facts: dict[str, Any], scored: Score, rules_version: str
) -> None:
    """Write the score down and emit what it means."""
    before = [lead.score, lead.disposition]
    lead.score, lead.disposition = scored.points, scored.disposition.name
    lead.offer, lead.rules_version = scored.disposition.offer, rules_version
    lead.interest, lead.updated_at = facts, ctx.now
    leads.remember(
        ctx.db, ctx.where, lead.lead_id, "scored", {"score": [before, [lead.score, lead.disposition]]}
    )
    common: dict[str, Any] = {
        "lead_id": lead.lead_id,
        "seq": await ctx.next_seq(lead.lead_id),
        "business": lead.business,
        "session_id": ctx.session_id,
        "at": ctx.now,
        "score": scored.points,
        "disposition": scored.disposition.name,
        "reasons": scored.reasons,
        "person": leads.person_of(lead),
        "interest": facts,
        "rules_version": rules_version,
    }
    if scored.disposition.qualifies:
        await ctx.emit(LeadQualified(**common, offer=scored.disposition.offer))
    else:
        await ctx.emit(LeadDisqualified(**common))
