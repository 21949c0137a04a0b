"""The understudy's settings, and the environment that its models want.

Law: this module alone looks at the environment.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from parley_common import settings as common

_FOR_MODELS = {
    "ORT_DISABLE_TELEMETRY": "1",  # onnxruntime 1.32 writes a device id and names a collector on Linux
    "OMP_NUM_THREADS": "1",  # one process per core is the layout; threads within it only contend
    "OPENBLAS_NUM_THREADS": "1",
}


class Settings(common.Settings):
    """How the understudy listens, thinks and speaks."""

    model_config = SettingsConfigDict(env_prefix="UNDERSTUDY_")

    host: str = "127.0.0.1"
    port: int = Field(default=8090, ge=0, le=65535)
    light: bool = False
    """Run without models: tones that carry their transcript instead of speech."""
    cache_dir: Path | None = None
    """Where rendered phrases are kept between runs; nowhere when unset."""
    workers: int = Field(default=0, ge=0, le=16)
    """Processes for ears and voice; 0 means one per core, at most 2."""
    queue_limit: int = Field(default=64, ge=1, le=10_000)
    """Jobs that may wait for a worker; one more fails its response or transcription."""
    job_deadline_s: float = Field(default=30.0, gt=0)
    sessions_max: int = Field(default=2000, ge=1)
    expiry_s: float | None = Field(default=None, gt=0)
    """How long a session lasts; the API's own hour (half an hour for Azure) when unset."""
    time_scale: float = Field(default=1.0, ge=0.001, le=10_000)
    """How many times faster than the machine's the clock of sessions runs: at 60 an hour ends in a minute."""
    ping_interval_s: float = Field(default=20.26, gt=0)
    """The API's own interval, as measured."""
    pace: float = Field(default=13.0, ge=0)
    """How many times faster than real time audio is sent; 0 sends it at once."""
    seed: int | None = None
    """Makes ids the same on every run; random when unset."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"

    def worker_count(self) -> int:
        """Return how many workers to start."""
        return self.workers or min(2, os.cpu_count() or 1)


def worker_environment() -> dict[str, str]:
    """Return the environment for a process that loads models."""
    return {**os.environ, **_FOR_MODELS}


def prepare_for_models() -> None:
    """Set what the models' libraries read when they are imported. Call before importing them."""
    for name, value in _FOR_MODELS.items():
        os.environ.setdefault(name, value)
