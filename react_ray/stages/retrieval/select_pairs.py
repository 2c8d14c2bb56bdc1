"""Selects the training set: queries -> hits -> `selected/`, with a report of the set in `selection.json`.

Hits come from a search (search_rounds.py) or from names in captions; the random control has none.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from react_ray import schema
from react_ray.artifact import Artifact, open_artifact
from react_ray.clip.prompts import TargetTask
from react_ray.draft import create
from react_ray.errors import ConfigError, RetrievalError
from react_ray.index.allowed import Allowed
from react_ray.index.config import Key
from react_ray.kinds import RETRIEVED, SELECTED, AllowedFacts, QueriesFacts, SelectedFacts
from react_ray.manifest import MANIFEST
from react_ray.search.gather import gather
from react_ray.section import digest
from react_ray.selection.claims import Claims, claims_of
from react_ray.selection.config import RetrieveConfig
from react_ray.selection.hit_columns import AskedClasses, HitColumns
from react_ray.selection.match_quality import Matched, below
from react_ray.selection.random_pairs import select_random
from react_ray.selection.report import lines, set_report
from react_ray.selection.select import SELECTED as STORED
from react_ray.selection.select import choose_screened, chosen_pairs, coverage, with_matches
from react_ray.stages.retrieval.compare_pairs import agreement_where_they_lie
from react_ray.stages.retrieval.database import Database
from react_ray.stages.retrieval.match import RandomHits, match
from react_ray.stages.retrieval.measure_scales import measure_scales
from react_ray.stages.retrieval.screen_pairs import Screening
from react_ray.stages.retrieval.search_rounds import Found, search_rounds
from react_ray.stages.retrieval.searchers import SearchPlan
from react_ray.stages.retrieval.string_match import string_match
from react_ray.storage import join, open_storage

REPORT = "selection.json"
PAIRS_PER_PART = 2048
SPARE = 4  # string matches of a class, in multiples of pairs_per_class: some fall to another class or to a screen


@dataclass(frozen=True)
class Selection:
    """What a selection chooses from, and how."""

    root: str  # below it lie hits, selected, retrieved
    config: RetrieveConfig
    database: Database
    asked: Artifact[QueriesFacts]
    tasks: list[TargetTask]
    plan: SearchPlan
    screening: Callable[[], Screening]  # called once, and not at all if the selection is there already
    random: Callable[[], Artifact[QueriesFacts] | None]  # the random queries of the background, called as `screening`
    allowed: Artifact[AllowedFacts] | None  # pairs that pass the filters and are not deleted; None = all
    num_random: int  # size of the random control; 0 for every other selection
    seed: int

    @property
    def keys(self) -> list[Key]:
        """String matching looks at captions alone."""
        return ["text"] if self.config.selection == "string" else list(self.config.keys)


def select_pairs(selection: Selection) -> Artifact[SelectedFacts]:
    """Returns the sealed `selected` below `root`."""
    uri, storage = join(selection.root, "selected"), open_storage(join(selection.root, "selected"))
    is_random = selection.config.selection == "random"
    config: dict[str, Any] = selection.config.digested() | {"keys": selection.keys}
    config |= {"seed": selection.seed if is_random else 0, "count": selection.num_random}
    for name, off in (("min_match", 0), ("image_share", 0), ("min_score_of", {}), ("min_image_score", -1)):
        if config[name] == off:
            del config[name]  # the same selection as before there was this field
    if config.pop("exclude"):  # what is in its files counts, not their names
        config["excluded"] = digest(selection.database.deleted.tolist())
    parents = _parents(selection)
    if storage.exists(MANIFEST):
        return create(uri, SELECTED, config, parents, open_artifact(uri, SELECTED).num_parts).open()
    chooser = Chooser(selection)
    chosen, funnel = chooser.choose()
    selected = create(uri, SELECTED, config, parents, -(-chosen.num_rows // PAIRS_PER_PART))
    for part in selected.pending():  # on disk, so that a task carries only the number of its part
        # Taken, not sliced: a cast of a slice casts the matches of all pairs before it.
        rows = chosen.take(pa.array(np.arange(chosen.num_rows)[part * PAIRS_PER_PART :][:PAIRS_PER_PART]))
        selected.commit(part, schema.conform(rows, STORED), 0.0)
    wanted = selection.config
    report = set_report(chosen, chooser.queries, funnel, wanted.poor_below, wanted.exclusive, chooser.matched)
    open_storage(selection.root).write(REPORT, (json.dumps(report, indent=1) + "\n").encode())
    return selected.seal(SelectedFacts(lines(report)))


def _parents(selection: Selection) -> dict[str, Artifact]:
    found: dict[str, Artifact] = {
        "pairs": selection.database.pairs,
        "embeddings": selection.database.embeddings,
        "queries": selection.asked,
    }
    if selection.allowed is not None:
        found["allowed"] = selection.allowed
    if selection.config.selection == "hits" and selection.plan.index is not None:
        found |= {name: parent for name, parent in selection.plan.parents().items() if name != "allowed"}
    return found


class Chooser:
    def __init__(self, selection: Selection) -> None:
        self.selection, self.wanted, self.database = selection, selection.config, selection.database
        self.screening = selection.screening()
        columns = ["query_id", "class_id", "task", "class_name", "prompt", "modality"]
        self.queries = pa.concat_tables(selection.asked.tables(columns))
        self.classes = AskedClasses(self.queries)
        place, plan = join(selection.root, "candidates"), selection.plan
        self.agreement = agreement_where_they_lie(place, selection.asked, self.wanted, plan)
        self.scales = None
        if self.wanted.fusion == "z-score":
            self.scales = measure_scales(selection.asked, self.database, selection.keys)
        self.matched = Matched()
        self.random: RandomHits | None = None

    def choose(self) -> tuple[pa.Table, dict[str, int]]:
        """Returns the chosen pairs (select.MATCHED), and how many pairs were left after each step."""
        funnel = {"pairs in the database": self.database.pairs.rows}
        if self.selection.allowed is not None:
            funnel["pass the filters"] = int(self.selection.allowed.facts.kept)
        if self.wanted.selection == "random":
            chosen, dropped = self._random()
            return chosen, funnel | dropped | {"chosen": chosen.num_rows}
        found = self._string_matches() if self.wanted.selection == "string" else self._search()
        chosen, dropped, self.random = found.chosen, found.counts, found.random
        funnel |= {"hits": sum(table.num_rows for table in found.tables())}
        chosen = self._with_matches(chosen, found)
        if self.wanted.selection == "hits" and chosen.num_rows:
            self.matched = self._match(chosen)
            if left_out := self.matched.dropped:
                funnel[f"pairs of {len(left_out):,} classes below min_match"] = sum(left_out.values())
                kept = ~np.isin(found.claims.class_id, list(left_out))
                claims, dropped = self._select(found.claims.take(np.flatnonzero(kept)))
                chosen = self._with_matches(chosen_pairs(claims, self.wanted), found, left_out)
        if chosen.num_rows == 0:
            raise RetrievalError(
                f"no class reaches retrieve.min_match={self.wanted.min_match:g}; lower it, add synonyms to "
                "tasks.class_names or ingest a larger pool"
                if self.matched.dropped
                else "no pair was retrieved for any class; lower retrieve.min_score or min_image_score, relax "
                "retrieve.filters or look at the class names"
            )
        return chosen, funnel | dropped | {"chosen": chosen.num_rows}

    def _match(self, chosen: pa.Table) -> Matched:
        selection = self.selection
        place, keys = join(selection.root, "candidates"), [str(key) for key in selection.keys]
        found = match(
            place, chosen, self.queries, selection.tasks, self.random, keys, self.database, selection.plan.cluster
        )
        counts = {number: count for number, _, count in coverage(chosen, self.queries, self.wanted.exclusive)}
        return Matched(
            found, {number: counts[number] for number in below(found, self.wanted.min_match)}, self.random is not None
        )

    def _random(self) -> tuple[pa.Table, dict[str, int]]:
        """Draws pairs that training can use and that pass the same checks as the retrieved ones."""
        screening, allowed = self.screening, self.selection.allowed
        bits = None if allowed is None else Allowed.load(allowed)
        dropped: dict[str, int] = {}

        def passes(drawn: np.ndarray) -> np.ndarray:
            left = np.arange(len(drawn)) if bits is None else np.flatnonzero(bits.contains(drawn))
            left = left[self._usable(drawn[left])]
            if screening.needed:
                order = np.argsort(drawn[left])
                screen = screening(drawn[left][order], -order.astype(np.float32))
                dropped.update(screen.dropped)
                left = left[order[screen.kept]]
            kept = np.zeros(len(drawn), dtype=bool)
            kept[left] = True
            return kept

        parts = [(receipt.part, receipt.rows) for receipt in self.database.pairs.receipts()]
        what = "can be used and pass filters, dedup and decontaminate"
        return select_random(parts, self.selection.num_random, self.selection.seed, passes, what), dropped

    def _usable(self, pair_ids: np.ndarray) -> np.ndarray:
        """Returns bool [N], True where image and caption, as far as they were embedded, have a vector."""
        if not len(pair_ids):
            return np.zeros(0, dtype=bool)
        rows = gather(self.database.embeddings, pair_ids, ["pair_id", "status", "similarity"])
        usable: np.ndarray = pc.equal(rows["status"], schema.OK).to_numpy()
        both: np.ndarray = pc.is_valid(rows["similarity"]).to_numpy()
        return usable & both if both.any() else usable

    def _string_matches(self) -> Found:
        wanted, selection = self.wanted, self.selection
        k = max(wanted.first_k, wanted.max_k, SPARE * wanted.pairs_per_class)
        place, cluster = join(selection.root, "matched"), selection.plan.cluster
        of = place, self.database, selection.asked, selection.tasks, k, cluster, selection.allowed
        hits = string_match(*of)
        claims = claims_of(HitColumns.read(hits, self.classes, wanted), self.classes, wanted, self.scales)
        chosen, counts = self._select(claims)
        return Found(lambda: iter([hits]), claims, chosen_pairs(chosen, wanted), counts)

    def _search(self) -> Found:
        chosen_from, wanted = self.selection, self.wanted
        return search_rounds(
            chosen_from.root,
            chosen_from.asked,
            self.queries,
            chosen_from.keys,
            wanted,
            chosen_from.plan,
            chosen_from.random,
            self._select,
            self.scales,
        )

    def _select(self, claims: Claims) -> tuple[Claims, dict[str, int]]:
        screening = self.screening if self.screening.needed else None
        return choose_screened(claims, self.wanted, screening, self.agreement)

    def _with_matches(self, chosen: pa.Table, found: Found, left_out: Collection[int] = ()) -> pa.Table:
        """left_out: classes whose hits are no matches."""
        tables = found.tables()
        if left_out:
            others = np.isin(self.queries["class_id"].to_numpy(), list(left_out))
            query_id = self.queries["query_id"].to_numpy()[others]
            tables = (table.filter(pa.array(~np.isin(table["query_id"].to_numpy(), query_id))) for table in tables)
        return with_matches(chosen, tables, self.classes, self.wanted)


def random_count(max_pairs: int, root: str, main: str) -> int:
    """The size of the random control: that of the run's own retrieval, at most max_pairs.

    root: of this retrieval; main: of the run's own. If they are the same, max_pairs must be given.
    """
    if root == main:
        if not max_pairs:
            raise ConfigError(
                "retrieve.selection=random is as large as what the run itself retrieves: use it in an arm, or set "
                "retrieve.max_pairs"
            )
        return max_pairs
    rows = open_artifact(join(main, "retrieved"), RETRIEVED).rows
    return min(max_pairs or rows, rows)
