"""Gathers the gallery of a retrieval from whatever exists: only captions, only some of the images, or everything."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pyarrow as pa

from react_ray.artifact import Artifact, open_artifact
from react_ray.errors import ArtifactError
from react_ray.kinds import PAIRS, SELECTED
from react_ray.pair_id import part_of, row_of
from react_ray.pairs.retrieval import (
    NOT_THERE,
    Place,
    Retrieval,
    RetrievedClass,
    RetrievedPair,
    credit_of,
)
from react_ray.progress import Progress
from react_ray.report.class_gallery import ClassEntry, Gallery, Pair
from react_ray.report.thumbnail import thumbnail
from react_ray.schema import OK
from react_ray.stages.showing.overview import SavedRecipe
from react_ray.storage import join

NUM_PAIRS = 8_000  # of the page: with photos, about as many as class_gallery.MAX_FILE_BYTES has room for
MOST_OF_CLASS, FEWEST_OF_CLASS = 15, 2  # pairs of a class, whatever the number of classes
LAST = 0.2  # share of them that are its last ones; the others are its best ones
MOST_BYTES = 4 << 30  # of a larger retrieval, only some parts are looked at
MOST_PARTS = 200  # of a database, for the captions of pairs that are selected and not yet gathered
FEW_CLASSES, FEW_PAIRS = 12, 8  # of the report, which shows examples alone
NUM_OTHERS = 2  # further classes that are named below a pair
NUM_THREADS = 4


def gallery_of(retrieval: Retrieval, recipe: SavedRecipe | None, title: str, most_bytes: int = MOST_BYTES) -> Gallery:
    """recipe: of the run, if it is there; it tells where the database is. most_bytes: of images that are read."""
    classes = retrieval.classes()
    looked_at = _parts(retrieval, most_bytes)
    num_shown = max(FEWEST_OF_CLASS, min(MOST_OF_CLASS, NUM_PAIRS // max(len(classes), 1)))
    num_last = int(LAST * num_shown)
    places = {one.class_id: retrieval.best(one.class_id, num_shown - num_last, num_last, looked_at) for one in classes}
    entries = _entries(retrieval, recipe, classes, places, num_shown - num_last, "show")
    return Gallery(
        name=title,
        facts=_facts(retrieval, classes),
        classes=entries,
        notes=_notes(retrieval),
        warnings=_warnings(retrieval, [pair for one in entries for pair in [*one.best, *one.last]], looked_at),
    )


def few_classes(retrieval: Retrieval) -> list[ClassEntry]:
    """Returns up to FEW_CLASSES classes, evenly spread over those that have pairs, with the best of their pairs."""
    looked_at = _parts(retrieval, MOST_BYTES)
    classes = [one for one in retrieval.classes() if one.pairs]
    classes = classes[:: max(1, len(classes) // FEW_CLASSES)][:FEW_CLASSES]
    places = {one.class_id: retrieval.best(one.class_id, FEW_PAIRS, 0, looked_at) for one in classes}
    return _entries(retrieval, None, classes, places, FEW_PAIRS, "report")


def _entries(
    retrieval: Retrieval,
    recipe: SavedRecipe | None,
    classes: list[RetrievedClass],
    places: dict[int, list[Place]],
    num_best: int,
    verb: str,
) -> list[ClassEntry]:
    """places: of each class, by its id; the first num_best of them are its best pairs, the others its last ones."""
    found: dict[Place, RetrievedPair] = {}
    pictures: dict[Place, bytes | None] = {}
    for place, pair, picture in _read(retrieval, {place for of in places.values() for place in of}, verb):
        found[place], pictures[place] = pair, picture
    captions = _captions(retrieval, recipe, found)
    names = {one.class_id: one.class_name for one in retrieval.classes()}
    dropped = set(retrieval.report.dropped_classes)
    shown = {
        one.class_id: [
            _pair(one, found[place], pictures[place], captions.get(found[place].pair_id), names)
            for place in places[one.class_id]
        ]
        for one in classes
    }
    return [_entry(one, shown[one.class_id], num_best, dropped) for one in classes]


def _parts(retrieval: Retrieval, most_bytes: int) -> list[int] | None:
    """The parts whose images are read; None = all. Pairs lie in the order of their ids, so any part is as good."""
    images = retrieval.images
    if images is None or not (done := images.done()):
        return None
    size = images.receipt(done[0]).bytes * len(done)
    if size <= most_bytes:
        return None
    step = -(-size // most_bytes)
    return retrieval.done[::step]


def _read(retrieval: Retrieval, places: set[Place], verb: str) -> Iterator[tuple[Place, RetrievedPair, bytes | None]]:
    """Yields each pair with its thumbnail; its own image is not kept."""
    by_part: dict[int, list[Place]] = {}
    for place in sorted(places):
        by_part.setdefault(place.part, []).append(place)
    with (
        ThreadPoolExecutor(NUM_THREADS) as pool,  # Pillow decodes and encodes outside of Python's lock
        Progress(verb, len(by_part), "pairs", note="reading the pairs to show") as progress,
    ):
        for here in by_part.values():
            pairs = list(retrieval.read(here))
            thumbnails = list(pool.map(lambda item: thumbnail(item[1].image), pairs))
            for (place, pair), picture in zip(pairs, thumbnails, strict=True):
                yield place, pair, picture
            progress.advance(len(here))


def _captions(
    retrieval: Retrieval, recipe: SavedRecipe | None, found: dict[Place, RetrievedPair]
) -> dict[int, tuple[str, str]]:
    """pair_id -> caption and URL, from the database, of pairs that are selected but not gathered yet."""
    if retrieval.pairs.kind != SELECTED or recipe is None or not found:
        return {}
    try:
        pairs: Artifact[Any] = open_artifact(join(recipe.database, PAIRS.name), PAIRS)
    except ArtifactError:
        return {}
    ids = np.array(sorted({pair.pair_id for pair in found.values()}), dtype=np.int64)
    parts = part_of(ids)
    if len(set(parts.tolist())) > MOST_PARTS:
        return {}
    captions: dict[int, tuple[str, str]] = {}
    for part in sorted(set(parts.tolist())):
        here = ids[parts == part]
        table = pairs.read(part, ["caption", "url"]).take(pa.array(row_of(here)))
        rows = zip(here.tolist(), table["caption"].to_pylist(), table["url"].to_pylist(), strict=True)
        captions |= {pair_id: (caption or "", url or "") for pair_id, caption, url in rows}
    return captions


def _pair(
    one: RetrievedClass,
    pair: RetrievedPair,
    picture: bytes | None,
    known: tuple[str, str] | None,
    names: dict[int, str],
) -> Pair:
    own = next((match for match in pair.matches if match["class_id"] == one.class_id), None)
    others = [match["class_id"] for match in pair.matches if match["class_id"] not in (one.class_id, None)]
    caption, url = known or (pair.caption, pair.url)
    return Pair(
        pair_id=pair.pair_id,
        caption=caption,
        url=url,
        score=own["score"] if own else pair.score,
        key=own["key"] if own else "",
        prompt=own["prompt"] if own else "",
        picture=picture,
        status="cannot be shown" if pair.status == OK and picture is None else pair.status,
        credit=credit_of(pair),
        others=tuple(names[i] for i in list(dict.fromkeys(others))[:NUM_OTHERS] if i in names),
    )


def _entry(one: RetrievedClass, pairs: list[Pair], num_best: int, dropped: set[str]) -> ClassEntry:
    match = one.match or {}
    measures = []
    if (named := match.get("named")) is not None:
        measures.append(("captions that name it", f"{named:.0%}"))
    if (z := match.get("z")) is not None:
        measures.append(("above the background", f"{z:.1f} sd"))
    if (agreement := match.get("agreement")) is not None:
        measures.append(("found by image and text", f"{agreement:.0%}"))
    if (twice := match.get("near_duplicates")) is not None:
        measures.append(("near-duplicates", f"{twice:.0%}"))
    return ClassEntry(
        task=one.task,
        class_name=one.class_name,
        prompts=one.prompts,
        num_pairs=one.pairs,
        score_min=one.score_min,
        score_mean=one.score_mean,
        score_max=one.score_max,
        best=pairs[:num_best],
        last=pairs[num_best:],
        flags=list(match.get("flags", [])),
        advice=list(match.get("advice", [])),
        measures=measures,
        z=z,
        dropped=f"{one.class_name} ({one.task})" in dropped,
    )


def _facts(retrieval: Retrieval, classes: list[RetrievedClass]) -> list[tuple[str, str]]:
    without = sum(not one.pairs for one in classes)
    facts = [("pairs", f"{retrieval.num_pairs:,}"), ("classes", f"{len(classes):,}")]
    facts += [("classes without a pair", f"{without:,}")] if without else []
    few = sum(0 < one.pairs < retrieval.report.poor_below for one in classes)
    facts += [(f"classes with fewer than {retrieval.report.poor_below}", f"{few:,}")] if few else []
    if retrieval.config.get("keys") and not retrieval.is_random:
        facts.append(("searched", " and ".join(retrieval.config["keys"])))
    return facts


def _notes(retrieval: Retrieval) -> list[str]:
    pairs = retrieval.pairs
    return list(pairs.facts.summary) if isinstance(pairs, Artifact) else []


def _warnings(retrieval: Retrieval, shown: list[Pair], looked_at: list[int] | None) -> list[str]:
    """What is not there yet, and what makes it; what was not looked at."""
    lines = []
    pairs, images = retrieval.pairs, retrieval.images
    if retrieval.is_random:
        lines.append("These pairs were drawn at random; each is shown under the class that its caption is nearest to.")
    if pairs.kind == SELECTED:
        has_captions = any(pair.caption for pair in shown)
        what = "captions and links, no pictures yet" if has_captions else "the ids of pairs alone"
        lines.append(f"The pairs are selected, and not gathered yet: here are {what}. `react-ray retrieve` goes on.")
    if len(retrieval.done) < pairs.num_parts:
        lines.append(
            f"{len(retrieval.done):,} of {pairs.num_parts:,} parts are done so far; the classes have more pairs than "
            "are counted here."
        )
    missing = sum(pair.status == NOT_THERE for pair in shown)
    if missing and pairs.kind != SELECTED:
        some = f"{len(images.done()):,} of {images.num_parts:,} parts of" if images is not None else "none of"
        lines.append(f"Of the images, {some} the retrieved pairs are there; `react-ray download` fetches them.")
    if looked_at is not None:
        lines.append(
            f"The retrieval is large: the pairs come from {len(looked_at):,} of its {len(retrieval.done):,} parts, "
            "evenly spread."
        )
    return lines
