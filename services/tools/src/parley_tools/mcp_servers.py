"""The MCP servers of businesses: connected while they are there, their allowed tools made into tools of ours.

A server that is away has no tools, so nobody is offered them; it is tried again, and asked now and then whether it is
still there. Which of its tools may be used, and how, is the business's own declaration, never the server's.

Law: a server's failure ends no call without an answer and never the service.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import httpx2
import structlog
from mcp import Client, MCPError, StdioServerParameters
from mcp import types as mcp_types
from mcp.client.streamable_http import streamable_http_client
from pydantic import JsonValue

from parley_common.business import Business
from parley_common.contracts.tool_calls import ToolClass
from parley_common.errors import DependencyUnavailable
from parley_common.own_tools import McpServer, McpTool
from parley_tools.context import ToolContext
from parley_tools.guarded_http import ANSWER_BYTES_MAX, AddressGuard
from parley_tools.http_tools import Secrets, filled_secrets, own_spec
from parley_tools.outcomes import bounded
from parley_tools.refusals import NothingDone, Refused
from parley_tools.registry import Output, Tool
from parley_tools.schema import DeclaredArguments

CONNECT_S = 10.0
STILL_THERE_EVERY_S = 5.0
BACKOFF_FIRST_S = 0.5
BACKOFF_MAX_S = 15.0
DESCRIPTION_CHARS_MAX = 1_024
SCHEMA_BYTES_MAX = 16_000
SAID_CHARS_MAX = 320
DETAIL_CHARS_MAX = 500
SAY_DONE = "That is done."
SAY_NOT_ACCEPTED = "That could not be done with what you told me."
REJECTED = frozenset({mcp_types.INVALID_PARAMS, mcp_types.METHOD_NOT_FOUND, mcp_types.INVALID_REQUEST})

log = structlog.get_logger("mcp")
OnTools = Callable[[Sequence[Tool]], None]


class PinnedMcpTransport(httpx2.AsyncBaseTransport):
    """Opens each request's socket to the address that was judged, and takes no answer that is too large."""

    def __init__(self, guard: AddressGuard) -> None:
        self._guard = guard
        self._inner = httpx2.AsyncHTTPTransport(trust_env=False)

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        url = request.url
        address = await self._guard.pin(url.host, url.port or (443 if url.scheme == "https" else 80))
        request.extensions = {**request.extensions, "sni_hostname": url.host}
        request.url = url.copy_with(host=address)
        response = await self._inner.handle_async_request(request)
        length = response.headers.get("content-length", "0")
        if length.isdigit() and int(length) > ANSWER_BYTES_MAX:
            await response.aclose()
            raise httpx2.ReadError("the answer is too large", request=request)
        return response

    async def aclose(self) -> None:
        await self._inner.aclose()


@dataclass(frozen=True, slots=True)
class Reach:
    """How servers are reached."""

    guard: AddressGuard
    secrets: Secrets

    @asynccontextmanager
    async def client(self, business: Business, declared: McpServer) -> AsyncIterator[Client]:
        """Yield a client of the server. Raises whatever the SDK does when it is not there."""
        place = f"{business.folder / 'business.yaml'}: mcp_tools: {declared.server}"
        if declared.url is None:
            command, *arguments = declared.command
            environment = filled_secrets(declared.env, self.secrets, place)
            parameters = StdioServerParameters(
                command=command, args=arguments, env=environment or None, cwd=business.folder
            )
            async with Client(parameters, cache=None) as client:
                yield client
            return
        headers = filled_secrets(declared.headers, self.secrets, place)
        async with (
            httpx2.AsyncClient(
                transport=PinnedMcpTransport(self.guard),
                headers=headers,
                trust_env=False,
                timeout=httpx2.Timeout(CONNECT_S, read=None),
            ) as http,
            Client(streamable_http_client(declared.url, http_client=http), cache=None) as client,
        ):
            yield client


class McpLink:
    """One server of one business."""

    def __init__(self, business: Business, declared: McpServer, reach: Reach, on_tools: OnTools) -> None:
        self._business = business
        self._declared = declared
        self._reach = reach
        self._on_tools = on_tools
        self._client: Client | None = None
        self._doubted = asyncio.Event()

    async def run(self, stop: asyncio.Event) -> None:
        """Keep the server's tools offered while it is there, until ``stop``."""
        backoff_s = BACKOFF_FIRST_S
        while not stop.is_set():
            try:
                async with asyncio.timeout(CONNECT_S) as connecting:
                    async with self._reach.client(self._business, self._declared) as client:
                        await self._take_in(client)
                        connecting.reschedule(None)
                        backoff_s = BACKOFF_FIRST_S
                        await self._watch(client, stop)
            except Exception as wrong:  # noqa: BLE001 - whatever a server or the SDK does, the service goes on
                log.warning("mcp.away", server=self._declared.server, cause=_cause(wrong))
            finally:
                self._client = None
                self._on_tools(())
            if not stop.is_set():
                await _first_of(stop.wait, after_s=backoff_s)
                backoff_s = min(2 * backoff_s, BACKOFF_MAX_S)

    async def _take_in(self, client: Client) -> None:
        listed: dict[str, mcp_types.Tool] = {}
        cursor: str | None = None
        while True:
            page = await client.list_tools(cursor=cursor)
            listed |= {each.name: each for each in page.tools}
            cursor = page.next_cursor
            if not cursor:
                break
        made = [self._tool(each, listed.get(each.name)) for each in self._declared.tools]
        self._client = client
        self._on_tools([tool for tool in made if tool is not None])

    async def _watch(self, client: Client, stop: asyncio.Event) -> None:
        """Ask now and then, and at once when a call found it gone. Raises when it is."""
        while not stop.is_set():
            self._doubted.clear()
            await _first_of(stop.wait, self._doubted.wait, after_s=STILL_THERE_EVERY_S)
            if not stop.is_set():
                async with asyncio.timeout(CONNECT_S):
                    await self._take_in(client)

    def _tool(self, allowed: McpTool, served: mcp_types.Tool | None) -> Tool | None:
        place = (
            f"{self._business.folder / 'business.yaml'}: mcp_tools: {self._declared.server}: {allowed.name}"
        )
        why = _unfit(served)
        if served is None or why:
            log.warning("mcp.tool_left_out", server=self._declared.server, tool=allowed.own_name, why=why)
            return None
        try:
            arguments = DeclaredArguments(served.input_schema)
        except ValueError:
            log.warning(
                "mcp.tool_left_out", server=self._declared.server, tool=allowed.own_name, why="schema"
            )
            return None
        spec = own_spec(
            self._business,
            allowed,
            name=allowed.own_name,
            description=(served.description or "")[:DESCRIPTION_CHARS_MAX],
            parameters=served.input_schema,
            tool_class=_class(allowed, served),
        )
        run = self._caller(allowed, is_read=spec.tool_class == "read")
        return Tool(spec, arguments, run, (), (), "external", None, place)

    def _caller(self, allowed: McpTool, *, is_read: bool) -> Callable[..., Awaitable[Output]]:
        async def call(_ctx: ToolContext, /, **arguments: JsonValue) -> Output:
            client = self._client
            if client is None:
                raise NothingDone(f"the MCP server {self._declared.server} is away")
            async with asyncio.timeout(allowed.deadline_ms / 1000):
                return bounded(_output(await self._ask(client, allowed.name, arguments)), is_read=is_read)

        return call

    async def _ask(
        self, client: Client, name: str, arguments: dict[str, JsonValue]
    ) -> mcp_types.CallToolResult:
        try:
            return await client.call_tool(name, arguments)
        except MCPError as wrong:
            if wrong.code in REJECTED:
                raise Refused(SAY_NOT_ACCEPTED, code="mcp_rejected") from wrong
            self._doubted.set()
            raise DependencyUnavailable(f"MCP error {wrong.code}", code="provider_unavailable") from wrong
        except TimeoutError:
            self._doubted.set()
            raise
        except Exception as wrong:
            self._doubted.set()
            raise DependencyUnavailable(
                f"the MCP server {self._declared.server}: {type(wrong).__name__}", code="provider_unavailable"
            ) from wrong


def _unfit(served: mcp_types.Tool | None) -> str:
    """Return why a served tool cannot be offered; empty when it can."""
    if served is None:
        return "the server has no such tool"
    if not served.description:
        return "it has no description"
    if served.input_schema.get("type") != "object":
        return "its schema is of no object"
    if len(json.dumps(served.input_schema)) > SCHEMA_BYTES_MAX:
        return "its schema is too large"
    return ""


def _class(allowed: McpTool, served: mcp_types.Tool) -> ToolClass:
    if allowed.tool_class is not None:
        return allowed.tool_class
    is_read = served.annotations is not None and served.annotations.read_only_hint is True
    return "read" if is_read else "irreversible"


def _output(result: mcp_types.CallToolResult) -> Output:
    """Return what a server's result means. Raises Refused when it says that it is an error."""
    text = "\n".join(part.text for part in result.content if isinstance(part, mcp_types.TextContent)).strip()
    if result.is_error:
        raise Refused(SAY_NOT_ACCEPTED, code="mcp_error", detail=text[:DETAIL_CHARS_MAX])
    structured = result.structured_content
    output: Output = dict(structured) if isinstance(structured, dict) else {"answer": text}
    said = output.get("say")
    spoken = said if isinstance(said, str) and said else text
    if len(spoken) > SAID_CHARS_MAX:
        spoken = spoken[:SAID_CHARS_MAX].rsplit(" ", 1)[0] + " …"
    return {**output, "say": spoken or SAY_DONE}


def _cause(wrong: BaseException) -> str:
    """Return the kind of the innermost error: task groups wrap what happened."""
    while isinstance(wrong, BaseExceptionGroup):
        wrong = wrong.exceptions[0]
    return type(wrong).__name__


async def _first_of(*waits: Callable[[], Awaitable[object]], after_s: float) -> None:
    """Return when the first of ``waits`` is over, or after a while."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(_wait(each)) for each in waits]
        await asyncio.wait(tasks, timeout=after_s, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            task.cancel()


async def _wait(wait: Callable[[], Awaitable[object]]) -> None:
    await wait()
