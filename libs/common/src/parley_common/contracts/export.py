"""Writes the contracts to docs/: JSON Schemas, the client protocol, AsyncAPI. ``make contracts`` runs it.

The committed schemas are a promise: one that today's models would break is not overwritten. Samples are written
by hand, one per fact, and never by this: they are records of version 1 that must stay readable for ever.

Law: an export that finds a broken promise or a fact without a sample changes nothing and exits with 1.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from parley_common.contracts.asyncapi import as_yaml, asyncapi_document
from parley_common.contracts.compatibility import breaking_changes, breaking_protocol_changes
from parley_common.contracts.schemas import MESSAGES, as_text, client_protocol_schema, message_schema

ASYNCAPI = "asyncapi.yaml"
SCHEMAS = "contracts/schemas"
SAMPLES = "contracts/samples"
PROTOCOL = "contracts/client-protocol.schema.json"


def documents(docs: Path) -> dict[str, str]:
    """Return every file that today's contracts make, by its path under ``docs``; reads only the samples."""
    found = {f"{SCHEMAS}/{message.name}.json": as_text(message_schema(message)) for message in MESSAGES}
    found[PROTOCOL] = as_text(client_protocol_schema())
    found[ASYNCAPI] = as_yaml(asyncapi_document(read_samples(docs)))
    return found


def read_samples(docs: Path) -> dict[str, dict[str, Any]]:
    """Return the committed records by fact type."""
    return {path.stem: json.loads(path.read_text()) for path in sorted((docs / SAMPLES).glob("*.json"))}


def broken_promises(docs: Path) -> list[str]:
    """Return what today's models break of the committed schemas, each as ``type: field: what``."""
    today = {message.name: message_schema(message) for message in MESSAGES}
    found: list[str] = []
    for path in sorted((docs / SCHEMAS).glob("*.json")):
        if path.stem in today:
            changes = breaking_changes(json.loads(path.read_text()), today[path.stem])
            found += [f"{path.stem}: {change}" for change in changes]
        else:
            found.append(f"{path.stem}: no longer exists")
    if (docs / PROTOCOL).is_file():
        changes = breaking_protocol_changes(
            json.loads((docs / PROTOCOL).read_text()), client_protocol_schema()
        )
        found += [f"client protocol: {change}" for change in changes]
    return found


def missing_samples(docs: Path) -> list[str]:
    """Return the facts that nobody wrote a sample for."""
    return [m.name for m in MESSAGES if m.is_fact and m.name not in read_samples(docs)]


def export(docs: Path) -> list[str]:
    """Write what changed and return its paths under ``docs``."""
    written = []
    for name, text in documents(docs).items():
        path = docs / name
        if not path.is_file() or path.read_text() != text:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
            written.append(name)
    return written


def main(argv: list[str]) -> int:
    """Export to the folder named, ``docs`` by default; return the exit code."""
    docs = Path(argv[0]) if argv else Path("docs")
    complaints = [
        f"{change} (make a new version, or delete the schema if nobody reads it yet)"
        for change in broken_promises(docs)
    ]
    complaints += [f"{name}: write {docs / SAMPLES / name}.json by hand" for name in missing_samples(docs)]
    if complaints:
        print("\n".join(complaints), file=sys.stderr)
        return 1
    written = export(docs)
    print("\n".join(f"wrote {docs / name}" for name in written) or f"{docs} is up to date")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
