"""An MCP server for tests: a small customer register, over stdin and stdout or, given a port, over HTTP."""

from __future__ import annotations

import asyncio
import os
import sys
from typing import Any

from mcp.server.mcpserver import MCPServer
from mcp.types import ToolAnnotations

server = MCPServer("crm", log_level="ERROR")
notes: list[str] = []


@server.tool(annotations=ToolAnnotations(read_only_hint=True))
def lookup_customer(name: str) -> dict[str, Any]:
    """Find a customer of ours by their full name, and since when they are one."""
    if name == "nobody":
        raise ValueError("no such customer")
    return {"name": name, "since": 2019, "say": f"{name} has been with us since 2019."}


@server.tool()
def addNote(text: str) -> str:  # noqa: N802 - a name that is not one of ours
    """Write a note into the register, which cannot be taken back."""
    notes.append(text)
    return f"{len(notes)} notes"


@server.tool(annotations=ToolAnnotations(read_only_hint=True))
async def slow_report(seconds: float) -> str:
    """Make a report that takes as many seconds as it is told to take."""
    await asyncio.sleep(seconds)
    return "report"


@server.tool(annotations=ToolAnnotations(read_only_hint=True))
def huge_report() -> str:
    """Make a report that is far longer than anybody could read or listen to."""
    return "x" * 200_000


@server.tool()
def vanish() -> str:
    """End the whole server in the middle of a call, as a crash would."""
    os._exit(1)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        server.run("streamable-http", port=int(sys.argv[1]))
    else:
        server.run()
