#!/usr/bin/env bash
# Recompute the hashed locks. Writes no registry name and no path of this machine.
set -e
NE=""; for m in common understudy launcher gateway session tools notify; do NE="$NE --no-emit-package parley-$m"; done
C="uv pip compile --universal --generate-hashes --no-header --no-annotate --python-version 3.11 --no-emit-package parley-workspace $NE"
$C pyproject.toml -o requirements.lock
$C libs/understudy/pyproject.toml --extra voice -c requirements.lock -o requirements-voice.lock
$C pyproject.toml --group test -c requirements.lock -o requirements-test.lock
