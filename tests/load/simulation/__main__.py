"""Simulate 100,000 sessions at once on measured per-session figures: what fills, what is refused, what breaks first.

The deployment is sized for the sessions, unless --set says otherwise; then a morning passes: arrivals grow to their peak,
connections roll over in step, machines die, Kafka is away, upstream refuses. It takes about a minute.

    python -m load.simulation                                          (in tests; or make simulate)
    python -m load.simulation --bench ../.parley/bench/bench.json      per-session figures of a bench
    python -m load.simulation --figures figures.json                   of load.simulation.measure, or your own
    python -m load.simulation --sessions 1000 --set session_replicas=20 --set rollover_jitter_s=300
    python -m load.simulation --tier 4 --sessions 2000 --admit-by-tokens
    python -m load.simulation --set upstream_refuses_at_s=1200         upstream refuses while all roll over
    python -m load.simulation --inputs                                 every input, with its value

Every input is a field of load/simulation/inputs.py, whose name says its unit and whose comment where it is from.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

from load.simulation import report
from load.simulation.engine import Simulation
from load.simulation.inputs import TIERS, Inputs, read_bench, read_settings
from load.simulation.sizing import sessions_of_tier, size


def main() -> int:
    args = _parser().parse_args()
    try:
        inputs = inputs_of(args)
        simulation = Simulation(inputs, args.seed)
    except (ValueError, TypeError, OSError, KeyError) as wrong:
        print(f"simulation: {type(wrong).__name__}: {wrong}", file=sys.stderr)
        return 78
    if args.inputs:
        print(json.dumps(asdict(inputs), indent=1))
        return 0
    began_s = time.monotonic()
    outcome = simulation.run()
    broken = report.breaks_first(inputs, args.seed)
    page = report.markdown(outcome, broken, args.seed, time.monotonic() - began_s)
    print(page)
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(json.dumps(report.as_json(outcome, broken, args.seed), indent=1) + "\n", "utf-8")
        args.out.with_suffix(".md").write_text(page, "utf-8")
    return 0


def inputs_of(args: argparse.Namespace) -> Inputs:
    """Return the inputs: defaults, then the bench, the figures, the settings; last what is sized and not set."""
    changes = read_bench(args.bench) if args.bench else {}
    changes |= json.loads(args.figures.read_text("utf-8")) if args.figures else {}
    requests, tokens = TIERS[args.tier]
    changes |= {"upstream_requests_per_min": requests, "upstream_tokens_per_min": tokens}
    changes |= ({"sessions": args.sessions} if args.sessions else {}) | read_settings(args.set)
    inputs = Inputs().but(**changes)
    inputs = replace(inputs, deployment=size(inputs, inputs.world.sessions)).but(**changes)
    if args.admit_by_tokens:
        w = inputs.world
        most = sessions_of_tier(w, w.upstream_requests_per_min or 1e18, w.upstream_tokens_per_min or 1e18)
        inputs = inputs.but(business_sessions_max=max(1, most))
    return inputs


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m load.simulation",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--bench", type=Path, help="a bench.json: processor time, memory, how busy a core may be"
    )
    parser.add_argument("--figures", type=Path, help="JSON with any other inputs by name")
    parser.add_argument("--sessions", type=int, help="at once at the peak (100000)")
    parser.add_argument("--tier", type=int, choices=tuple(TIERS), default=5, help="upstream's usage tier (5)")
    parser.add_argument(
        "--admit-by-tokens",
        action="store_true",
        help="limits.sessions_max as the tier bears; without it upstream answers part of the responses with its rate limit",
    )
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="any input; none is null"
    )
    parser.add_argument("--seed", type=int, default=1, help="the same seed, the same run (1)")
    parser.add_argument("--out", type=Path, help="write JSON there, and the page beside it")
    parser.add_argument("--inputs", action="store_true", help="print all inputs as JSON and stop")
    return parser


if __name__ == "__main__":
    sys.exit(main())
