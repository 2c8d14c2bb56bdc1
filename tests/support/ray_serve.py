"""What Ray Serve runs for a test: how many replicas of a deployment, and their processes."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import psutil
from ray import serve


def num_running(deployment: str) -> int:
    """Of whichever application it is a part."""
    for application in serve.status().applications.values():
        if deployment in application.deployments:
            states: dict[Any, int] = dict(application.deployments[deployment].replica_states)
            return states.get("RUNNING", 0)
    return 0


def processes_of(deployment: str) -> list[psutil.Process]:
    """On the Ray that this process has started: others may serve on this machine, too."""
    found = []
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):  # it has ended
            said = " ".join(process.cmdline()).strip()
            if said.startswith("ray::ServeReplica:") and said.endswith(f":{deployment}"):
                found.append(process)
    return found
