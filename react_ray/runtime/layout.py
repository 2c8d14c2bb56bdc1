"""Where a recipe's artifacts lie, below two roots: `database`, which tasks share, and `out`, which holds one run."""

from __future__ import annotations

from typing import TypeVar

from react_ray.artifact import Artifact, open_artifact, plan_of
from react_ray.errors import ArtifactMismatch, ConfigError
from react_ray.kinds import IMAGES, PAIRS, Kind
from react_ray.manifest import MANIFEST
from react_ray.recipe import BASE, Recipe
from react_ray.storage import join, open_storage

F = TypeVar("F")


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
        """The place of the scores of an arm, or of one of the recipe's bases."""
        return self.of_run(f"scores/{candidate}") if candidate.partition(".")[0] == BASE else self.of_arm("scores")

    def retrieved_root(self) -> str:
        """Arms that do not change retrieval train on the run's own retrieved pairs."""
        return self.run if self.recipe.shares_retrieval(self.arm) else self.arm_root

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
