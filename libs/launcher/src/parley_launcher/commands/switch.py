"""`parley switch`: switch a business, or one of its tools, off and on again on every replica at once."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Annotated

import typer
from aiokafka import TopicPartition
from rich.table import Table

from parley_common.contracts.operations import Switch
from parley_common.contracts.record import Record, read_contract, to_json
from parley_common.contracts.topics import SWITCHES
from parley_common.errors import InvalidRecord
from parley_common.kafka import Publisher, partition_reader
from parley_common.settings import KafkaSettings
from parley_launcher.console import stdout
from parley_launcher.settings import load_kafka_settings

app = typer.Typer(help="Switch a business or a tool off, or on again.", no_args_is_help=True)
Business = Annotated[str, typer.Argument(help="The business.")]
Tool = Annotated[str | None, typer.Option(help="Only this tool, as the business names it.")]


@app.command()
def off(
    business: Business,
    tool: Tool = None,
    reason: Annotated[str, typer.Option(help="Why, for whoever reads `parley switch list`.")] = "",
) -> None:
    """Switch off: new sessions are refused and running ones ended; a tool is refused with a sentence."""
    switch = Switch(business=business, tool=tool, reason=reason, at=datetime.now(UTC))
    asyncio.run(_write(load_kafka_settings(), switch.key, to_json(switch)))
    stdout.print(f"{switch.key} is off")


@app.command()
def on(business: Business, tool: Tool = None) -> None:
    """Switch on again."""
    key = Switch(business=business, tool=tool, at=datetime.now(UTC)).key
    asyncio.run(_write(load_kafka_settings(), key, None))
    stdout.print(f"{key} is on")


@app.command("list")
def list_switches() -> None:
    """List everything that is off."""
    switches = asyncio.run(_read(load_kafka_settings()))
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("off", "since", "why"):
        table.add_column(column)
    for key, switch in sorted(switches.items()):
        table.add_row(key, f"{switch.at:%Y-%m-%d %H:%M} UTC", switch.reason)
    stdout.print(table if switches else "nothing is switched off")


async def _write(settings: KafkaSettings, key: str, value: bytes | None) -> None:
    publisher = Publisher(settings, client_id="parley-switch")
    await publisher.start()
    try:
        headers = (("content-type", b"application/json"),)
        await publisher.publish(Record(SWITCHES.name, key.encode(), value, headers))
    finally:
        await publisher.aclose()


async def _read(settings: KafkaSettings) -> dict[str, Switch]:
    """Return what is off, by key: the topic read to its present end."""
    found: dict[str, Switch] = {}
    where = TopicPartition(SWITCHES.name, 0)
    async with partition_reader(
        settings, SWITCHES, 0, client_id="parley-switch", from_beginning=True
    ) as reader:
        end = (await reader.end_offsets([where]))[where]
        while await reader.position(where) < end:
            for record in (await reader.getmany(timeout_ms=250)).get(where, ()):
                key = (record.key or b"").decode("utf-8", "replace")
                found.pop(key, None)
                if record.value is not None:
                    try:
                        found[key] = read_contract(Switch, record.value)
                    except InvalidRecord:
                        continue  # what the services cannot read switches nothing off
    return found
