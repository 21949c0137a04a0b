"""A business's HTTP tools: the request that a call becomes, and what its answer means. One request per call.

A status of 4xx is the caller's or the model's matter and is refused with the business's own sentence; everything
else that is no answer is a dependency that is away. Whether a repeat is safe is what the declaration says.

Law: a caller's words fill a path segment, a query value or a JSON value, encoded; nothing they say changes where a
request goes. No argument, address or answer is logged.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit, urlunsplit

import httpx
from pydantic import JsonValue, SecretStr

from parley_common.business import Business
from parley_common.contracts.tool_calls import ToolClass, ToolSpec
from parley_common.errors import ConfigInvalid, DependencyUnavailable
from parley_common.own_tools import PLACEHOLDER, SECRET, HttpTool, McpTool, secrets_named
from parley_tools.context import ToolContext
from parley_tools.guarded_http import Fetched, fetch
from parley_tools.outcomes import bounded
from parley_tools.refusals import NothingDone, Refused
from parley_tools.registry import Output, Tool
from parley_tools.schema import DeclaredArguments

SAY_NOT_ACCEPTED = "That was not accepted. Could we check what you told me?"
UNKNOWN_WORD = "unknown"
Secrets = Mapping[str, SecretStr]


def http_tools(business: Business, http: httpx.AsyncClient, secrets: Secrets) -> list[Tool]:
    """Return the HTTP tools that a business declares. Raises ConfigInvalid for a schema or secret at fault."""
    return [_tool(business, each, http, secrets) for each in business.config.http_tools]


def _tool(business: Business, declared: HttpTool, http: httpx.AsyncClient, secrets: Secrets) -> Tool:
    place = f"{business.folder / 'business.yaml'}: http_tools: {declared.name}"
    endpoint = _Endpoint(declared, http, filled_secrets(declared.headers, secrets, place))
    try:
        arguments = DeclaredArguments(declared.parameters)
    except ValueError as wrong:
        raise ConfigInvalid(f"{place}: parameters: {wrong}") from wrong
    spec = own_spec(
        business,
        declared,
        name=declared.name,
        description=declared.description,
        parameters=declared.parameters,
        tool_class=declared.tool_class,
    )
    return Tool(
        spec=spec,
        arguments=arguments,
        run=endpoint.call,
        emits=(),
        data=(),
        effects="external_keyed" if declared.idempotency_header else "external",
        concurrency=None,
        place=place,
    )


def own_spec(
    business: Business,
    declared: HttpTool | McpTool,
    *,
    name: str,
    description: str,
    parameters: Mapping[str, Any],
    tool_class: ToolClass,
) -> ToolSpec:
    """Return the announcement of a tool that a business brings itself."""
    return ToolSpec.model_validate(
        {
            "name": name,
            "description": description,
            "parameters": parameters,
            "class": tool_class,
            "deadline_ms": declared.deadline_ms,
            "needs": declared.needs,
            "personal": declared.personal,
            "filler": declared.filler,
            "version": business.version,
            "business": business.name,
        }
    )


def filled_secrets(texts: Mapping[str, str], secrets: Secrets, place: Path | str) -> dict[str, str]:
    """Return header or environment values with their secrets. Raises ConfigInvalid that names a missing one."""
    for name in sorted(secrets_named(dict(texts)) - set(secrets)):
        raise ConfigInvalid(f"{place}: there is no secret {name}", remedy="set it in TOOLS_HTTP_SECRETS")
    return {
        name: SECRET.sub(lambda found: secrets[found[1]].get_secret_value(), value)
        for name, value in texts.items()
    }


@dataclass(frozen=True, slots=True)
class _Endpoint:
    """One declared endpoint, ready to be asked."""

    declared: HttpTool
    http: httpx.AsyncClient
    headers: dict[str, str]

    async def call(self, ctx: ToolContext, /, **arguments: JsonValue) -> Output:
        """Ask once and say what came of it."""
        said = {name: value for name, value in arguments.items() if value is not None}
        request = self._request(said, ctx.idempotency_key)
        async with asyncio.timeout(self.declared.deadline_ms / 1000):
            answer = await _ask(self.http, request)
        return self._read(answer, said)

    def _request(self, said: Mapping[str, JsonValue], idempotency_key: str) -> httpx.Request:
        declared = self.declared
        headers = {"accept": "application/json", "accept-encoding": "identity", **self.headers}
        if declared.idempotency_header:
            headers[declared.idempotency_header] = idempotency_key
        query = {
            name: fill(text, said)
            for name, text in declared.query.items()
            if set(PLACEHOLDER.findall(text)) <= set(said)
        }
        url = httpx.URL(filled_url(declared.url, said))
        return self.http.build_request(
            declared.method,
            url.copy_merge_params(query) if query else url,
            headers=headers,
            json=self._body(said),
        )

    def _body(self, said: Mapping[str, JsonValue]) -> JsonValue:
        declared = self.declared
        if declared.body is not None:
            return filled_json(declared.body, said)
        if declared.method not in ("POST", "PUT", "PATCH"):
            return None
        elsewhere = set(PLACEHOLDER.findall(declared.url + "".join(declared.query.values())))
        return {name: value for name, value in said.items() if name not in elsewhere}

    def _read(self, answer: Fetched, said: Mapping[str, JsonValue]) -> Output:
        _check_status(answer.status, self.declared.refusals)
        raw = _json(answer.body)
        if self.declared.answer:
            output = {name: at(raw, pointer) for name, pointer in self.declared.answer.items()}
        else:
            output = dict(raw) if isinstance(raw, dict) else {"answer": raw}
        spoken = fill(self.declared.say, {**said, **output})
        return bounded({**output, "say": spoken}, is_read=self.declared.tool_class == "read")


async def _ask(http: httpx.AsyncClient, request: httpx.Request) -> Fetched:
    try:
        return await fetch(http, request)
    except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.UnsupportedProtocol) as wrong:
        raise NothingDone(f"not reached: {type(wrong).__name__}", code="provider_unavailable") from wrong
    except httpx.HTTPError as wrong:
        raise DependencyUnavailable(
            f"no answer: {type(wrong).__name__}", code="provider_unavailable"
        ) from wrong


def _check_status(status: int, refusals: Mapping[int, str]) -> None:
    """Return for 2xx. Raises Refused, NothingDone or DependencyUnavailable for the rest."""
    if 200 <= status < 300:
        return
    if status in refusals:
        raise Refused(refusals[status], code=f"http_{status}")
    if status in (401, 403, 407):
        raise NothingDone(f"answered {status}", code="provider_refused_us")
    if status == 429:
        raise NothingDone("answered 429", code="provider_busy")
    if 400 <= status < 500:
        raise Refused(SAY_NOT_ACCEPTED, code=f"http_{status}")
    raise DependencyUnavailable(f"answered {status}", code="provider_unavailable")


def _json(body: bytes) -> JsonValue:
    if not body.strip():
        return {}
    try:
        return _READ(body)
    except (ValueError, RecursionError) as wrong:
        raise DependencyUnavailable("the answer is not JSON", code="provider_talks_nonsense") from wrong


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")


_READ: Callable[[bytes], JsonValue] = lambda body: json.loads(body, parse_constant=_no_constant)  # noqa: E731


def at(raw: JsonValue, pointer: str) -> JsonValue:
    """Return what a JSON pointer finds; null when there is nothing. Source: RFC 6901."""
    found = raw
    for token in pointer.split("/")[1:]:
        key = token.replace("~1", "/").replace("~0", "~")
        if isinstance(found, dict):
            found = found.get(key)
        elif isinstance(found, list) and key.isdigit():
            found = found[int(key)] if int(key) < len(found) else None
        else:
            return None
    return found


def fill(text: str, said: Mapping[str, JsonValue]) -> str:
    """Return ``text`` with its placeholders filled in as words."""
    return PLACEHOLDER.sub(lambda found: _word(said.get(found[1])), text)


def _word(value: JsonValue) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict | list):
        return json.dumps(value)
    return UNKNOWN_WORD if value is None else str(value)


def filled_url(template: str, said: Mapping[str, JsonValue]) -> str:
    """Return a URL whose placeholders are percent-encoded.

    Raises:
        Refused: what was said would be a path segment that means another place.
    """
    parts = urlsplit(template)
    segments = [fill_encoded(segment, said) for segment in parts.path.split("/")]
    if any(segment in (".", "..") for segment in segments):
        raise Refused(SAY_NOT_ACCEPTED, code="invalid_arguments")
    return urlunsplit((parts.scheme, parts.netloc, "/".join(segments), fill_encoded(parts.query, said), ""))


def fill_encoded(text: str, said: Mapping[str, JsonValue]) -> str:
    """Return ``text`` with its placeholders percent-encoded; one that nobody said is empty."""
    return PLACEHOLDER.sub(
        lambda found: quote(_word(said[found[1]]), safe="") if found[1] in said else "", text
    )


def filled_json(template: JsonValue, said: Mapping[str, JsonValue]) -> JsonValue:
    """Return a JSON value filled in: a string that is one placeholder becomes the value, with its type.

    A field whose value nobody said is left out.
    """
    if isinstance(template, str):
        whole = PLACEHOLDER.fullmatch(template)
        return said.get(whole[1]) if whole else fill(template, said)
    if isinstance(template, list):
        return [filled_json(each, said) for each in template]
    if isinstance(template, dict):
        filled = {name: filled_json(each, said) for name, each in template.items()}
        return {name: each for name, each in filled.items() if each is not None or template[name] is None}
    return template
