"""Says whether a container engine answers here, and describes containers with one port on loopback."""

from __future__ import annotations

import shutil
import subprocess
from functools import cache
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from testcontainers.core.container import DockerContainer

DEADLINE_S = 2.0


@cache
def docker_engine_version() -> str | None:
    """Return the version of the Docker engine that answers within two seconds, else null."""
    docker = shutil.which("docker")
    if docker is None:
        return None
    try:
        answer = subprocess.run(
            [docker, "info", "--format", "{{.ServerVersion}}"],
            capture_output=True,
            text=True,
            timeout=DEADLINE_S,
            check=True,
        )
    except (subprocess.SubprocessError, OSError):
        return None
    return answer.stdout.strip() or None


def on_loopback(image: str, container_port: int, port: int, **variables: str) -> DockerContainer:
    """Describe a container whose ``container_port`` is ``port`` of 127.0.0.1; it is not started."""
    # Late: testcontainers is only worth its import where an engine answers.
    from testcontainers.core.container import DockerContainer

    container = DockerContainer(image).with_envs(**variables)
    # The builder of testcontainers can only bind to every address; the engine itself takes a pair.
    cast("dict[str, Any]", container.ports)[f"{container_port}/tcp"] = ("127.0.0.1", port)
    return container
