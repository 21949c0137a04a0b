"""`parley events`: follow what passes Kafka, one line per record."""

from __future__ import annotations

import asyncio
import json
from typing import Annotated

import typer

from parley_common.settings import KafkaSettings
from parley_launcher.console import stdout
from parley_launcher.facts.follow import follow
from parley_launcher.facts.render import FactLine, FactReader, is_of_session
from parley_launcher.settings import load_kafka_settings


def events(
    topic: Annotated[
        list[str] | None,
        typer.Option(help="Only this topic; repeat it for more. Default: facts and tool calls."),
    ] = None,
    session: Annotated[
        str | None, typer.Option(help="Only this session: its id, or the end of it as the lines show.")
    ] = None,
    from_beginning: Annotated[
        bool, typer.Option("--from-beginning", help="Begin with the oldest record Kafka still has.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object per record.")] = False,
) -> None:
    """Follow facts and tool calls until Ctrl-C.

    Lines hold no personal data: what a lead or a tool call contains stays in
    Kafka.

    \b
    Examples:
      parley events
      parley events --topic parley.lead.events --from-beginning
      parley events --session 4f0c2a91 --json
    """
    settings = load_kafka_settings()
    asyncio.run(_follow(settings, topic or [], session, from_beginning=from_beginning, as_json=as_json))


async def _follow(
    settings: KafkaSettings, topics: list[str], session: str | None, *, from_beginning: bool, as_json: bool
) -> None:
    reader = FactReader()
    async with follow(settings, topics, from_beginning=from_beginning) as records:
        async for record in records:
            line = reader.read(record)
            if session is None or is_of_session(line, session):
                _print(line, as_json)


def _print(line: FactLine, as_json: bool) -> None:
    if as_json:
        print(json.dumps(line.as_json(), ensure_ascii=False), flush=True)
    else:
        stdout.print(line.text())
