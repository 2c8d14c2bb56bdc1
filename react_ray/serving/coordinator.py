"""search_groups: asks all groups of a key, merges their answers, and says what share of the vectors was compared.

Drives the rounds of index/search_shards.py, which are the same as a retrieval's; parts that no index covers are
compared exactly by one group.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from react_ray.index.class_hits import Classes, ClassHits, merge_class_hits, reduce_hits
from react_ray.index.config import IVF_RABITQ, Key, SearchParams
from react_ray.index.merge import Hits, merge, no_hits
from react_ray.index.search_shards import Proposed, Round, searching
from react_ray.index.shards import Lists
from react_ray.kinds import IndexFacts
from react_ray.serving.groups import SCAN, Asked, Group
from react_ray.serving.refusal import GroupUnavailable
from react_ray.serving.stamp import Stamp


@dataclass(frozen=True)
class KeyPlan:
    """Where the vectors of one key lie: in these groups, and in parts that no index covers."""

    key: Key
    groups: Sequence[Group]
    num_vectors: Sequence[int]  # of each of them
    facts: IndexFacts | None
    lists: Lists | None  # None if there is one group, which looks them up itself
    scanner: Group
    num_scanned: int  # rows of the parts that are compared exactly; 0 = there are none


@dataclass
class Search:
    """One search of one key."""

    plan: KeyPlan
    stamp: Stamp
    filters: tuple[str, ...] = ()
    allow_partial: bool = False
    excluded: bytes = b""  # as Asked has them
    lost: set[str] = field(default_factory=set)  # names of groups that did not answer

    async def hits(self, queries_QD: np.ndarray, k: int, params: SearchParams) -> Hits:
        """queries: float32 [Q, D]; returns Hits [Q, k]. GroupUnavailable if a group does not answer, unless a partial
        answer is allowed and another one did."""
        found = await self._found(queries_QD, k, params)
        return merge(found, k) if found else no_hits(len(queries_QD), k)

    async def class_hits(self, queries_QD: np.ndarray, classes: Classes, most: int, params: SearchParams) -> ClassHits:
        """As `hits`, but the `most` best pairs of each class."""
        return merge_class_hits(await self._found(queries_QD, most, params, classes), most)

    async def _found(
        self, queries_QD: np.ndarray, k: int, params: SearchParams, classes: Classes | None = None
    ) -> list[Any]:
        work = []
        if self.plan.groups:
            work.append(self._index_hits(queries_QD, k, params, classes))
        if self.plan.num_scanned:
            work.append(self._scan_hits(queries_QD, k, classes))
        found = await asyncio.gather(*work)
        if self.lost and self.coverage == 0:
            raise GroupUnavailable(min(self.lost), "nor does another")
        return list(found)

    @property
    def coverage(self) -> float:
        """The share of the vectors with which the queries were compared."""
        plan = self.plan
        counts = [*plan.num_vectors, plan.num_scanned]
        names = [*(group.name for group in plan.groups), f"{SCAN} {plan.scanner.name}"]
        there = sum(count for count, name in zip(counts, names, strict=True) if name not in self.lost)
        return there / sum(counts) if sum(counts) else 1.0

    async def _index_hits(self, queries_QD: np.ndarray, k: int, params: SearchParams, classes: Classes | None) -> Any:
        facts = self.plan.facts
        assert facts is not None
        two_stages, num_lists = facts.kind == IVF_RABITQ, facts.num_lists if self.filters else 0
        probes = None
        if self.plan.lists is not None and params.k_factor:
            probes = await asyncio.to_thread(self.plan.lists.probes, queries_QD, params.nprobe)
        steps = searching(len(self.plan.groups), queries_QD, k, params, num_lists, two_stages, classes, probes)
        answers: list[Any] | None = None
        while True:
            try:
                asked = next(steps) if answers is None else steps.send(answers)
            except StopIteration as end:
                return end.value
            is_first, num_lost = answers is None, len(self.lost)
            answers = await asyncio.gather(
                *(self._ask(group, asked, each) for group, each in zip(self.plan.groups, asked.each, strict=True))
            )
            if len(self.lost) > num_lost and not is_first:  # pairs of a group that is gone have kept out others
                return await self._index_hits(queries_QD, k, params, classes)

    async def _ask(self, group: Group, asked: Round, each: tuple[Any, ...]) -> Any:
        if group.name not in self.lost:
            try:
                return await group.answer(self._question(asked.method, asked.queries_QD, each))
            except GroupUnavailable:
                if not self.allow_partial:
                    raise
                self.lost.add(group.name)
        return nothing(asked, each)

    def _question(self, method: str, queries_QD: np.ndarray, args: tuple[Any, ...]) -> Asked:
        return Asked(self.stamp, self.plan.key, self.filters, method, queries_QD, args, self.excluded)

    async def _scan_hits(self, queries_QD: np.ndarray, k: int, classes: Classes | None) -> Any:
        group = self.plan.scanner
        try:
            hits: Hits = await group.answer(self._question(SCAN, queries_QD, (k,)))
        except GroupUnavailable:
            if not self.allow_partial:
                raise
            self.lost.add(f"{SCAN} {group.name}")
            hits = no_hits(len(queries_QD), k)
        return hits if classes is None else reduce_hits(hits, classes, k)


def nothing(asked: Round, each: tuple[Any, ...]) -> Any:
    """The answer of a group without vectors."""
    num = len(asked.queries_QD)
    if asked.method == "propose":
        none, no_scores = np.empty((num, 0), np.int64), np.empty((num, 0), np.float32)
        return Proposed(no_scores, none, none, no_scores)
    k, classes = (each[0], each[2]) if asked.method == "search" else each[1:]
    hits = no_hits(num, k)
    return hits if classes is None else reduce_hits(hits, classes, k)
