"""Picks the retrieved pairs that the report shows: the best of a few classes, with their pictures."""

from __future__ import annotations

from react_ray.pairs.retrieval import credit_of, open_retrieval
from react_ray.recipe import Recipe
from react_ray.report.data import Picture
from react_ray.runtime.layout import Layout

CLASSES_SHOWN, PICTURES_SHOWN = 12, 8


def retrieved_pictures(recipe: Recipe, arm: str) -> list[tuple[str, list[Picture]]]:
    """Returns the best pairs of up to CLASSES_SHOWN classes, spread evenly over the classes that have any.

    Pairs whose image is not there are left out. ArtifactMissing if nothing has been retrieved so far.
    """
    retrieval = open_retrieval(Layout(recipe, arm).retrieved_root())
    classes = {one.class_id: one for one in retrieval.classes()}
    places = {class_id: retrieval.best(class_id, PICTURES_SHOWN) for class_id in sorted(classes)}
    found = [class_id for class_id, of_class in places.items() if of_class]
    chosen = found[:: max(1, len(found) // CLASSES_SHOWN)][:CLASSES_SHOWN]
    pictures = {}
    for place, pair in retrieval.read(place for class_id in chosen for place in places[class_id]):
        if pair.image is not None:
            key = pair.matches[0]["key"] if pair.matches else ""
            pictures[place] = Picture(pair.image, pair.caption, pair.score or 0.0, key, credit_of(pair))
    return [
        (
            f"{classes[class_id].class_name} ({classes[class_id].task})",
            [pictures[place] for place in places[class_id] if place in pictures],
        )
        for class_id in chosen
    ]
