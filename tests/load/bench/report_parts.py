"""The rows of services at volume and of optional duties, as Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import fmean

from load.bench.duties import DUTIES, NONE, NOT_SWITCHED, Added, DutyCost, Pair, costs
from load.bench.ground import Around
from load.bench.notify_volume import Delivered
from load.bench.outbox_volume import Relayed
from load.bench.tools_volume import ToolsAtRate
from load.bench.volume import Found

Cells = Sequence[object]
DUTY_ROWS = (
    "The first row is without any: its mean, its least and its most, as the machine varied. "
    "The others are what is added by a duty to what runs beside it: the mean, and each round."
)


def volume_lines(found: Found) -> list[str]:
    """Return the tables of what was measured at volume; nothing where nothing was."""
    if not found:
        return []
    lines = [
        "## Services at volume",
        "",
        "One process each. CPU is its own, in ms for each call, fact or delivery.",
        "",
    ]
    if found.tools:
        lines += [*_tools(found.tools), ""]
    if found.outbox:
        lines += [*_outbox(found.outbox), ""]
    if found.notify:
        lines += [*_notify(found.notify), ""]
    return lines


def _tools(measured: Iterable[ToolsAtRate]) -> list[str]:
    head = (
        "tool | asked a second | answered / asked | answered a second | p50 / p99, ms | CPU | commits | twice"
    )
    return _rows(
        f"{head} | asker late p99, ms; CPU %",
        (
            [
                one.tool,
                f"{one.rate_per_s:g}",
                f"{one.tally.answered} / {one.tally.asked}",
                f"{one.tally.answered_per_s:.0f}",
                f"{_ms(one.tally.trip_ms.p50)} / {_ms(one.tally.trip_ms.p99)}",
                f"{one.cpu_ms_per_call:.2f}",
                "–" if one.commits_per_call is None else f"{one.commits_per_call:.2f}",
                one.tally.twice,
                f"{_ms(one.asker_late_ms.p99)}; {one.asker_pct:.0f}",
                *_around(one.database, one.around),
            ]
            for one in measured
        ),
    )


def _outbox(measured: Iterable[Relayed]) -> list[str]:
    return _rows(
        "relay of an outbox | facts a second | CPU | lost | twice | out of order",
        (
            [
                f"{one.arrived.facts} facts of {one.leads} lead{'s' * (one.leads > 1)}",
                f"{one.per_s:.0f}",
                f"{one.cpu_ms_per_fact:.2f}",
                one.arrived.lost,
                one.arrived.twice,
                one.arrived.out_of_order,
                *_around(one.database, one.around),
            ]
            for one in measured
        ),
    )


def _notify(measured: Iterable[Delivered]) -> list[str]:
    return _rows(
        "notify, by webhook | deliveries a second | CPU | made / due | twice",
        (
            [
                f"{one.routes} route{'s' * (one.routes > 1)}{' and a dead one' * one.has_dead_route}, {one.facts} facts",
                f"{one.per_s:.0f}",
                f"{one.cpu_ms_per_delivery:.2f}",
                f"{one.due - one.lost} / {one.due}",
                one.twice,
                *_around(one.database, one.around),
            ]
            for one in measured
        ),
    )


def _rows(head: str, rows: Iterable[Cells]) -> list[str]:
    """Return a table whose last columns are what was around."""
    whole = f"| {head} | database | cores busy %, load |"
    lines = [whole, "|" + "---|" * (whole.count("|") - 1)]
    return lines + ["| " + " | ".join(map(str, cells)) + " |" for cells in rows]


def _around(database: str, around: Around) -> list[str]:
    busy = f"{around.core_pct['system']:.0f} and {around.core_pct['rest']:.0f}"
    return [database, f"{busy}, {around.load_1m:.1f}"]


def _ms(value: float | None) -> str:
    return "–" if value is None else f"{value:.1f}"


def duty_lines(pairs: Sequence[Pair]) -> list[str]:
    """Return the table of duties; nothing where none was measured."""
    if not pairs:
        return []
    offs = [pair.off for pair in pairs]
    services, latencies = list(offs[0].cpu_ms), list(offs[0].latency_ms)
    head = ["duty", *(f"{name} CPU" for name in services), *latencies, "seen to be done"]
    without = [_of([side.cpu_ms[name] for side in offs]) for name in services]
    without += [_of([side.latency_ms[name] for side in offs]) for name in latencies]
    callers = offs[0].measured.rung.callers
    lines = [
        "## What optional duties cost",
        "",
        f"{callers} callers on each side. CPU in ms for each second of session, latency in ms. {DUTY_ROWS}",
        "",
        "| " + " | ".join(head) + " |",
        "|" + "---|" * len(head),
        _row("without any", without, all(side.is_done for side in offs)),
    ]
    lines += [_cost(cost, services, latencies) for cost in costs(pairs)]
    means = [f"- {duty.name}: {duty.means}" for duty in DUTIES]
    return [*lines, "", *means, *(f"- {line}" for line in NOT_SWITCHED), ""]


def _cost(cost: DutyCost, services: Sequence[str], latencies: Sequence[str]) -> str:
    cells = [_more(cost.cpu_ms[name]) for name in services]
    name = "none (what two alike differ by)" if cost.duty == NONE.name else cost.duty
    return _row(name, [*cells, *(_more(cost.latency_ms[name]) for name in latencies)], cost.is_done)


def _row(duty: str, cells: Sequence[str], is_done: bool) -> str:
    return "| " + " | ".join([duty, *cells, "yes" if is_done else "NO"]) + " |"


def _of(values: Sequence[float]) -> str:
    return f"{fmean(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def _more(added: Added) -> str:
    return f"{added.mean:+.2f} ({', '.join(f'{value:+.2f}' for value in added.rounds)})"
