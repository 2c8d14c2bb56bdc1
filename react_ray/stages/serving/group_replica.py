"""GroupReplica: one process of a group of shards. It opens its shards and answers questions (question_server.py)."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import nullcontext, suppress
from functools import partial
from threading import Semaphore, Thread
from typing import Any

from ray.util import get_node_ip_address

from react_ray.cancellation import stop_if_cancelled
from react_ray.errors import ReactRayError
from react_ray.index.quantizer import faiss_threads
from react_ray.index.search_shards import FEW
from react_ray.index.shard_cache import ShardCache
from react_ray.serving.groups import Asked, ShardGroup
from react_ray.serving.question_server import Address, QuestionServer
from react_ray.serving.stamp import stamp_of

QUESTIONS = "questions"  # that a process has now, as Ray Serve is told


class GroupReplica:
    def __init__(
        self, uri: str, number: int, count: int, num_threads: int, reload_s: float, cache_dir: str, cache_bytes: int
    ) -> None:
        """Opens the shards before the first question. num_threads: of FAISS; cache_dir, cache_bytes: as of
        ShardCache."""
        self.group, self._reload_s = ShardGroup(uri, number, count, ShardCache(cache_dir, cache_bytes)), reload_s
        self.group.prepare(stamp_of(uri))
        methods: dict[str, Callable[[Any], Any]] = {"answer": self.answer, "prepare": self.group.prepare}
        self._bulk = Semaphore(max(2, num_threads))
        self._server = QuestionServer(get_node_ip_address(), methods, partial(faiss_threads, num_threads))
        Thread(target=self._follow, name="follow", daemon=True).start()

    def answer(self, asked: Asked) -> Any:
        """As many questions of many queries are answered at once as there are threads; one of few queries waits for
        none of them."""
        with self._bulk if len(asked.queries_QD) > FEW else nullcontext():
            stop_if_cancelled()
            return self.group.answer(asked)

    async def where(self) -> Address:
        return self._server.address

    def record_autoscaling_stats(self) -> dict[str, float]:
        """As Ray Serve asks for them."""
        return {QUESTIONS: self._server.asked.value}

    def _follow(self) -> None:
        """Opens what changed before a question asks for it."""
        while True:
            time.sleep(self._reload_s)
            with suppress(ReactRayError, OSError):  # it is being written; the ingress says so
                self.group.prepare(stamp_of(self.group.uri))
