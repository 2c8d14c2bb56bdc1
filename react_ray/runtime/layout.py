"""Where a recipe's artifacts lie, below two roots: `database`, which tasks share, and `out`, which holds one run."""

from __future__ import annotations

from typing import TypeVar
from urllib.parse import quote

from react_ray.artifact import Artifact, open_artifact, plan_of
from react_ray.errors import ArtifactMismatch, ConfigError
from react_ray.gated.config import OF_HEAD as HEAD
from react_ray.kinds import CLASS_VECTORS, IMAGES, LABELLED_FEATURES, PAIRS, Kind
from react_ray.manifest import MANIFEST
from react_ray.recipe import BASE, Recipe
from react_ray.storage import join, open_storage

F = TypeVar("F")
PIXELS, PIXELS_LABELLED = "pixels.retrieved", "pixels.labelled"  # rows of 1-NN on small pictures


def models(recipe: Recipe) -> dict[str, str]:
    """All that `evaluate` has to score, name -> URI of its scores: each base, and each arm with its head behind it."""
    found = {base: Layout(recipe).scores(base) for base in recipe.bases()}
    for arm in recipe.arm_names():
        heads = [f"{arm}{HEAD}"] if recipe.arm(arm).customize.head else []
        found |= {name: Layout(recipe, arm).scores(name) for name in (arm, *heads)}
    return found


def any_customised(recipe: Recipe) -> bool:
    """False if no arm has a finished model, so that `evaluate` scores the bases alone."""
    return any(open_storage(Layout(recipe, arm).of_arm("model")).exists(MANIFEST) for arm in recipe.arm_names())


def scored(recipe: Recipe) -> dict[str, str]:
    """As `models`, and the rows of pixels that the table may have besides."""
    return models(recipe) | {name: Layout(recipe).scores(name) for name in (PIXELS, PIXELS_LABELLED)}


def shown_name(name: str) -> str:
    """Returns the name of a row in the report; the only arm of a recipe without arms has none in the recipe."""
    return name if name and not name.startswith(HEAD) else f"customized{name}"


def other_scores(recipe: Recipe) -> list[str]:
    """The URIs of all scores of protocols other than classification that `evaluate` may make."""
    rows, layout = models(recipe), Layout(recipe)
    sets = recipe.evaluate.other_sets.items()
    return [layout.protocol_scores(row, protocol, name) for protocol, some in sets for row in rows for name in some]


class Layout:
    """The URIs of a recipe's artifacts. recipe: that of the whole run; arm: the name of one of its variants."""

    def __init__(self, recipe: Recipe, arm: str = "") -> None:
        self.recipe, self.arm = recipe, arm
        self.run = recipe.out
        self.arm_root = join(recipe.out, "arms", arm) if arm else recipe.out

    def database(self, kind: str) -> str:
        return join(self.recipe.database, kind)

    def of_run(self, kind: str) -> str:
        return join(self.run, kind)

    def of_arm(self, kind: str) -> str:
        return join(self.arm_root, kind)

    def scores(self, candidate: str) -> str:
        """The place of the scores of this arm, of its head, or of a row that belongs to the whole run."""
        if candidate.partition(".")[0] == BASE or candidate in (PIXELS, PIXELS_LABELLED):
            return self.of_run(f"scores/{candidate}")
        return self.of_arm("scores_head" if candidate.endswith(HEAD) else "scores")

    def labelled_features(self, row: str, dataset: str) -> str:
        """The place of the image vectors of a labelled set by the model of a row of the table."""
        return join(self.of_run(LABELLED_FEATURES.name), row or "model", quote(dataset, safe=""))

    def class_vectors(self, row: str) -> str:
        """The place of the zero-shot classifiers by the model of a row of the table."""
        return join(self.of_run(CLASS_VECTORS.name), row or "model")

    def scores_few(self, row: str, dataset: str) -> str:
        """The place of the scores that a row of the table reaches on a labelled set by learning from few labels."""
        return join(self.of_run("scores_few"), row or "model", quote(dataset, safe=""))

    def outputs(self, row: str, protocol: str, dataset: str) -> str:
        """The place of what the model of a row of the table made of a set, by a protocol other than classification."""
        return join(self.of_run(f"outputs_{protocol}"), row or "model", quote(dataset, safe=""))

    def protocol_scores(self, row: str, protocol: str, dataset: str) -> str:
        """The place of the figures that follow from `outputs`."""
        return join(self.of_run(f"scores_{protocol}"), row or "model", quote(dataset, safe=""))

    def retrieved_root(self) -> str:
        """Arms that do not change retrieval train on the run's own retrieved pairs."""
        return self.run if self.recipe.shares_retrieval(self.arm) else self.arm_root

    def labelled_root(self) -> str:
        """The place of the labelled images that train, as pairs; arms that do not change which they are share them."""
        return join(self.run if self.recipe.shares_labels(self.arm) else self.arm_root, "labelled")

    def image_vectors(self) -> str:
        """The place of the image vectors of the retrieved pairs, where the database has none."""
        return join(self.retrieved_root(), "image_vectors")

    def open_images(self) -> Artifact:
        """Open the images of the database, which ingest makes if the source has images, and download if it has URLs."""
        listed = open_storage(self.database("pairs")).exists(MANIFEST)
        return self.open_database(IMAGES, "download" if listed else "ingest")

    def open_embedded(self) -> Artifact:
        """Open what embed reads: `images`, or `pairs` where captions suffice or embed fetches the URLs itself."""
        if not self.recipe.embed.images:
            return self.open_database(PAIRS)
        if self.recipe.fused:
            return self._open_urls()
        if self.recipe.download.of == "pairs":
            return self.open_images()
        raise ConfigError(
            "embed.images needs the images of the whole database, and download.of=retrieved leaves them where they "
            "are; set embed.images=false, download.of=pairs, or download.keep_images=false to fetch them for their "
            "vectors alone"
        )

    def _open_urls(self) -> Artifact:
        uri = self.database("images")
        if "pairs" not in plan_of(uri).get("parents", {"pairs": ""}):
            raise ArtifactMismatch(
                f"{uri} was made by ingest, of a source that has images: there is nothing to fetch; set "
                "download.fused=false and download.keep_images=true"
            )
        return self.open_database(PAIRS)

    def has_published_vectors(self) -> bool:
        """True if ingest found vectors in the source, so that embed has nothing to do."""
        plan = plan_of(self.database("embeddings"))
        return bool(plan) and not plan["parents"]

    def open_database(self, kind: Kind[F], made_by: str = "") -> Artifact[F]:
        return open_artifact(self.database(kind.name), kind, made_by)
