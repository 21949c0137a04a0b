"""`parley-session render`: has upstream speak a business's fixed sentences once and keeps the audio.

Asks for each sentence out of band (it enters no conversation) in the business's own voice. Nothing is kept of
an answer that upstream did not complete.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import msgspec
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException

from parley_common.business import Business, load_all
from parley_common.clock import SystemClock
from parley_common.contracts.audio_link import BYTES_PER_SAMPLE, SAMPLES_PER_MS
from parley_common.errors import ConfigInvalid, DependencyUnavailable, Permanent
from parley_session import realtime_codec
from parley_session.core import effects as ef
from parley_session.core import events as ev
from parley_session.profile import upstream_profile
from parley_session.realtime_link import Endpoint
from parley_session.rendered import Sentence, sentences
from parley_session.settings import SessionSettings

SENTENCE_S = 60
DIAL_S = 10


def render(settings: SessionSettings, names: Sequence[str], *, again: bool) -> None:
    """Render what is missing for the businesses named, or for all. Raises ConfigInvalid and ParleyError."""
    businesses = load_all(settings.parley.businesses_dir)
    unknown = [name for name in names if name not in businesses]
    if unknown:
        raise ConfigInvalid(
            f"there is no business {unknown[0]!r}", remedy=f"there are: {', '.join(sorted(businesses))}"
        )
    for name in names or sorted(businesses):
        asyncio.run(_render_business(settings, businesses[name], again=again))


async def _render_business(settings: SessionSettings, business: Business, *, again: bool) -> None:
    folder = settings.rendered_folder
    folder.mkdir(parents=True, exist_ok=True)
    for sentence in sentences(business, settings.model):
        path = folder / sentence.file_name
        if path.exists() and not again:
            print(f"{business.name} {sentence.name}: is there ({_lasts(path.read_bytes())})")
            continue
        pcm = await _spoken(settings, business, sentence)
        _write(path, pcm)
        print(f"{business.name} {sentence.name}: {_lasts(pcm)} of {sentence.voice}, {sentence.model}")


def _lasts(pcm: bytes) -> str:
    return f"{len(pcm) / BYTES_PER_SAMPLE / SAMPLES_PER_MS / 1000:.1f} s"


def _write(path: Path, pcm: bytes) -> None:
    """Write whole or not at all: a session may read it meanwhile."""
    half = path.with_suffix(".part")
    half.write_bytes(pcm)
    half.replace(path)


async def _spoken(settings: SessionSettings, business: Business, sentence: Sentence) -> bytes:
    endpoint = Endpoint(
        settings.upstream_url, settings.upstream_api_key.get_secret_value(), settings.upstream_auth
    )
    try:
        async with (
            asyncio.timeout(SENTENCE_S),
            connect(
                endpoint.address(sentence.model),
                additional_headers=endpoint.headers(),
                compression=None,
                max_size=None,
                open_timeout=DIAL_S,
            ) as socket,
        ):
            return await _converse(socket, settings, business, sentence)
    except (OSError, TimeoutError, WebSocketException) as wrong:
        raise DependencyUnavailable(
            f"upstream at {settings.upstream_url} did not speak: {type(wrong).__name__}",
            remedy="is it running? `parley up` or `parley understudy` starts the stand-in",
        ) from wrong


async def _converse(
    socket: ClientConnection, settings: SessionSettings, business: Business, sentence: Sentence
) -> bytes:
    profile = upstream_profile(business, (), default_model=settings.model, now=SystemClock().now())
    configure = realtime_codec.encode(ef.ConfigureUpstream("voice"), profile)
    assert configure is not None  # noqa: S101 - a configuration is always for upstream
    await socket.send(configure, text=True)
    pcm = bytearray()
    while True:
        match realtime_codec.decode(await socket.recv(decode=False)):
            case ev.UpstreamConfigured():
                await socket.send(_request(sentence), text=True)
            case ev.AudioArrived(pcm=part):
                pcm += part
            case ev.UpstreamRefused(code=code, message=message):
                raise Permanent(f"upstream refused: {message}", code=f"upstream_{code or 'refused'}")
            case ev.ResponseEnded(status="completed") if pcm:
                return bytes(pcm)
            case ev.ResponseEnded(status=status, reason=reason):
                raise Permanent(f"upstream did not complete the sentence: {status} {reason}".strip())
            case _:
                continue


def _request(sentence: Sentence) -> bytes:
    """Ask for one sentence, word for word, outside of any conversation."""
    response = {
        "conversation": "none",
        "input": [],
        "instructions": f'Say exactly: "{sentence.text}"',
        "output_modalities": ["audio"],
        "tool_choice": "none",
    }
    return msgspec.json.encode({"type": "response.create", "response": response})
