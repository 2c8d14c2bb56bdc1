"""Bounds how often a part is tried, whether an exception ends the try or the death of its process.

Ray starts the tasks of a dead process again without end, and tells nobody. So each process notes in the key-value
store of the cluster's head when it begins and ends with a part; a part that begins again without having ended was in
work when a process died.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any
from uuid import uuid4

import ray
from ray.experimental.internal_kv import _internal_kv_del, _internal_kv_get, _internal_kv_list, _internal_kv_put

from react_ray.errors import ArtifactCorrupt, PartFailed, ReactRayError, StorageError
from react_ray.row_guard import one_line
from react_ray.runtime.cluster import nodes

logger = logging.getLogger(__name__)


class WorkerDied(PartFailed):
    """The process that worked on a part died, again and again."""


class Attempts:
    """The tries of the parts of one pipeline."""

    def __init__(self, name: str, retries: int) -> None:
        self.name, self.retries, self.place = name, retries, f"react_ray/{uuid4().hex}/"

    def outcome(self, part: int, action: Callable[[], Any]) -> Any:
        """The value of `action`, or a ReactRayError: WorkerDied if it killed its process once more than `retries`."""
        state: dict[str, Any] = json.loads(_internal_kv_get(self._key(part)) or '{"at": "", "died": []}')
        if state["at"]:
            state["died"].append(state["at"])
            if self._counted(state["died"]) > self.retries:
                return WorkerDied(f"{self.name}: the process of part {part} died {len(state['died'])} times")
        state["at"] = ray.get_runtime_context().get_node_id()
        _internal_kv_put(self._key(part), json.dumps(state))
        try:
            return attempt(self.name, part, action, self.retries)
        finally:
            if state["died"]:
                _internal_kv_put(self._key(part), json.dumps(state | {"at": ""}))
            else:
                _internal_kv_del(self._key(part))

    def _counted(self, died: list[str]) -> int:
        """The deaths on nodes that live: a part has no share in the loss of a node, which spot markets take back."""
        if len(died) <= self.retries:
            return len(died)
        alive = {node["NodeID"] for node in nodes()}
        return sum(node in alive for node in died)

    def in_work(self) -> list[int]:
        """The parts that have begun and not ended."""
        keys = [key.decode() for key in _internal_kv_list(self.place)]
        begun = [key for key in keys if json.loads(_internal_kv_get(key) or '{"at": ""}')["at"]]
        return sorted(int(key.removeprefix(self.place)) for key in begun)

    def forget(self) -> None:
        """Removes all notes, if the cluster is still there."""
        with suppress(ray.exceptions.RayError):
            _internal_kv_del(self.place, del_by_prefix=True)

    def _key(self, part: int) -> str:
        return f"{self.place}{part}"


def attempt(name: str, part: int, action: Callable[[], Any], retries: int) -> Any:
    """The value of `action`, or a ReactRayError: a mistake of the user at once, any other error after the retries."""
    for left in range(retries, -1, -1):
        try:
            return action()
        except (Exception, SystemExit) as error:
            if isinstance(error, ReactRayError) and not isinstance(error, (StorageError, ArtifactCorrupt)):
                return error  # storage may answer the next time, and bytes may arrive whole
            logger.warning("%s part %d failed (%s), %d tries left", name, part, error, left, exc_info=left == 0)
            if left == 0:
                return PartFailed(
                    f"{name}: part {part} failed {retries + 1} times: {one_line(error, 1000)}; what is done is "
                    "kept, run the same command again when the cause is gone"
                )
            time.sleep(0.1 * (retries - left + 1))
