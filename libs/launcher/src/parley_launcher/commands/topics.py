"""`parley topics`: make the topics of the contracts true on a broker, or list how they are."""

from __future__ import annotations

import asyncio

import typer
from rich.table import Table

from parley_common.contracts.topics import DAY_MS, HOUR_MS, Topic
from parley_common.topic_admin import apply_topics, describe_topics
from parley_launcher.console import stdout
from parley_launcher.settings import load_kafka_settings

app = typer.Typer(help="Create Kafka topics, or list them.", no_args_is_help=True)
_STYLES = {"created": "green", "unchanged": "dim", "configured": "yellow", "refused": "bold red"}


@app.command()
def apply() -> None:
    """Create what is missing; never resize or delete. Safe to repeat."""
    changes = asyncio.run(apply_topics(load_kafka_settings()))
    table = _table("topic", "action", "detail")
    for change in changes:
        table.add_row(change.topic.name, f"[{_STYLES[change.action]}]{change.action}[/]", change.detail)
    stdout.print(table)
    if any(change.action == "refused" for change in changes):
        raise typer.Exit(1)


@app.command("list")
def list_topics() -> None:
    """List every topic of Parley and what this Kafka has of it."""
    states = asyncio.run(describe_topics(load_kafka_settings()))
    table = _table("topic", "partitions", "kept", "key", "written by → read by")
    for state in states:
        topic = state.topic
        has = f"{state.partitions}" if state.partitions else "[red]missing[/]"
        differs = state.partitions not in (0, topic.partitions)
        partitions = f"[red]{has}, should be {topic.partitions}[/]" if differs else has
        table.add_row(topic.name, partitions, kept(topic), topic.key, f"{topic.written_by} → {topic.read_by}")
    stdout.print(table)


def kept(topic: Topic) -> str:
    """Return in words how long a topic keeps its records."""
    if topic.retention_ms is None:
        return "newest per key"
    if topic.retention_ms % DAY_MS == 0:
        return f"{topic.retention_ms // DAY_MS} d"
    return f"{topic.retention_ms // HOUR_MS} h"


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, no_wrap=column == "topic")
    return table
