"""``parley bench``: how many sessions a core bears, what Parley adds to latency, what a session, a call and a fact cost.

Callers speak in real time over the public client protocol, through the real services, to a stand-in for the model; beside
them, in the same run, through the smallest relay that is correct and through a bare echo. The services have one core,
callers and stand-in the other. Then services at volume: tool calls at 1, 100, 500 and 1,000 a second through Kafka, the
relay of an outbox, webhooks; for a few seconds each, with --full for longer.

--volume or --duties measures that part alone (both: those two). Duties are what may be switched on: tracing, words in
facts, log lines, limits on a business. The same callers speak with one of them and without any, in turn: seven minutes.

A run has a budget (--budget-s). It is spent step by step; what would not fit any more is left out, and the report says
so. The result is a Markdown table, JSON and a plot.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from load.bench import report
from load.bench.machine import choose_cores
from load.bench.run import FULL, Part, Plan, Run
from load.bench.systems import Lab, is_linux


def main() -> int:
    args = _parser().parse_args()
    if not is_linux():
        print("parley bench: needs Linux: it pins processes and reads /proc", file=sys.stderr)
        return 78
    plan = FULL if args.full else Plan()
    if args.budget_s:
        plan = replace(plan, budget_s=args.budget_s)
    plan = replace(plan, callers_max=args.callers_max, step=args.step or plan.step)
    only: set[Part] = {part for part in ("volume", "duties") if getattr(args, part)}
    plan = replace(plan, parts=frozenset(only) or plan.parts)
    with tempfile.TemporaryDirectory(prefix="parley-bench-") as folder:
        cores = choose_cores(args.service_core, args.rest_core)
        with Lab(Path(folder) / "lab", cores, args.upstream) as lab:
            run = Run(plan, lab, say=lambda line: print(f"[{run.passed_s:4.0f} s] {line}", flush=True))
            run.say(f"services on core {cores.system}, callers and upstream on core {cores.rest}")
            asyncio.run(run.whole())
            at = datetime.now(UTC)
            report.write(run, args.out, at)
    print()
    print(report.markdown(run, at))
    print(f"also in {args.out}: bench.json, bench.md{', bench.svg' if run.measured else ''}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="parley bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--full", action="store_true", help="search finer and longer, each service alone and duties too"
    )
    parser.add_argument("--volume", action="store_true", help="only services at volume")
    parser.add_argument("--duties", action="store_true", help="only what optional duties cost")
    parser.add_argument("--out", type=Path, default=Path(".parley/bench"), help="where the report goes")
    parser.add_argument("--budget-s", type=float, help="how long it may take (540; with --full 3600)")
    parser.add_argument("--step", type=int, help="callers from rung to rung (25; with --full 10)")
    parser.add_argument("--callers-max", type=int, default=300)
    parser.add_argument(
        "--upstream",
        choices=("lean", "burst", "understudy"),
        default="lean",
        help="lean: 20 ms deltas in real time; burst: 260 ms deltas, 13 times faster; understudy: light mode",
    )
    parser.add_argument("--service-core", type=int, help="the core of what is measured (the last)")
    parser.add_argument(
        "--rest-core", type=int, help="the core of callers, upstream, Kafka, tools (the first)"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
