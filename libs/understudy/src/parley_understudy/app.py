"""The program: ``python -m parley_understudy.app`` or ``parley understudy``.

Law: one line when ready; SIGTERM and SIGINT end it in order; a wrong setting is one line and exit code 78.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import signal
import sys
from collections.abc import Sequence
from typing import Any

import structlog
from pydantic import ValidationError

from parley_common.errors import ConfigInvalid
from parley_common.settings import load_settings
from parley_understudy.server import Running, serve
from parley_understudy.settings import Settings


def main(argv: Sequence[str] | None = None) -> int:
    """Run the understudy until it is told to stop; return the exit code."""
    given = {name: value for name, value in vars(_parser().parse_args(argv)).items() if value is not None}
    try:
        settings = _settings(given)
        _prepare_logging(settings.log_level)
        asyncio.run(_until_stopped(settings))
    except ConfigInvalid as wrong:
        print(wrong, file=sys.stderr)
        return wrong.exit_code
    except KeyboardInterrupt:
        return 130
    return 0


async def _until_stopped(settings: Settings) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for each in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(each, stop.set)
    await serve(settings, stop=stop, started=_announce)


def _announce(running: Running) -> None:
    why = f", {running.light_because}" if running.light_because else ""
    print(f"understudy ready on {running.url} ({running.mode} mode{why})", flush=True)


def _settings(given: dict[str, Any]) -> Settings:
    """Return the environment's settings with those of the command line over them."""
    settings = load_settings(Settings)
    try:
        return Settings.model_validate({**settings.model_dump(), **given})
    except ValidationError as wrong:
        fault = wrong.errors(include_url=False, include_input=False)[0]
        raise ConfigInvalid(f"UNDERSTUDY_{str(fault['loc'][0]).upper()}: {fault['msg']}") from wrong


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="parley understudy",
        description="A local stand-in for the OpenAI Realtime API. Every option is also a setting, UNDERSTUDY_*.",
    )
    parser.add_argument("--host", help="address to listen on (127.0.0.1)")
    parser.add_argument("--port", type=int, help="port to listen on (8090; 0 takes a free one)")
    parser.add_argument(
        "--light",
        action="store_true",
        default=None,
        help="no speech models: tones that carry their transcript",
    )
    parser.add_argument("--cache-dir", help="where rendered phrases are kept between runs")
    parser.add_argument(
        "--workers", type=int, help="processes for ears and voice (0: one per core, at most 2)"
    )
    parser.add_argument("--expiry-s", type=float, help="how long a session lasts (3600)")
    parser.add_argument("--time-scale", type=float, help="sessions live this many times faster (1)")
    parser.add_argument("--pace", type=float, help="audio is sent this many times faster than real time (13)")
    parser.add_argument("--log-level", choices=["debug", "info", "warning", "error"])
    return parser


def _prepare_logging(level: str) -> None:
    """Log to standard error. Tracebacks are plain: with values of variables they would show what callers said."""
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper("iso"),
            structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    logging.getLogger("websockets").setLevel(logging.ERROR)


if __name__ == "__main__":
    sys.exit(main())
