"""QueryModel: the model that embeds a query, which must be the one that embedded the database.

Takes what the embeddings say of their model and, if it is known, the recipe's backbone. A sentence passes the text
tower alone, without torch where that is possible; an image needs the whole model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np

from react_ray.clip.config import BackboneConfig
from react_ray.clip.identity import WEIGHT_FILES, same_image_tower, same_text_tower
from react_ray.clip.text_tower import TextTower, keep_text_tower, read_text_tower
from react_ray.errors import BackboneError, ConfigError, ReactRayError
from react_ray.storage import join

if TYPE_CHECKING:
    from react_ray.clip.embedder import Embedder

OTHERWISE = "search a RECIPE, or pass backbone= in Python, which names the model that embedded the database"


class QueryModel:
    def __init__(
        self,
        uri: str,
        made_by: dict[str, Any],
        backbones: Sequence[BackboneConfig],
        seed: int = 0,
        others: Callable[[], Sequence[BackboneConfig]] = tuple,
    ) -> None:
        """uri: of the embeddings, for messages. made_by: the `backbone` of their facts. backbones: what the model may
        be loaded from, the likeliest first; empty = what `made_by` says. seed: of random weights. others: called for
        more of `backbones` if these do not do."""
        self.uri, self.made_by, self.seed = uri, made_by, seed
        self.backbones = list(backbones) or described(made_by)
        self._others = others
        self._loading = Lock()
        self._loaded: Embedder | None = None

    def embed_texts(self, texts: list[str]) -> np.ndarray:
        """[N] -> float16 [N, D], unit norm. BackboneError if the model cannot be loaded, or if it is another one."""
        tower = self._tower
        return self._embedder.embed_texts(texts) if tower is None else tower.embed_texts(texts)

    def load(self) -> None:
        """Loads the whole model, which the first image would otherwise wait for."""
        _ = self._embedder

    def embed_images(self, images: Sequence[bytes]) -> np.ndarray:
        """As `embed_texts`, of encoded images. ConfigError if one cannot be decoded."""
        return self.embed_pixels(self.decode(images))

    def decode(self, images: Sequence[bytes]) -> np.ndarray:
        """[N] -> uint8 [N, 3, S, S] of the model's size. ConfigError if one cannot be decoded."""
        pixels_NCHW, problems = self._embedder.decode(list(images))
        for number, problem in enumerate(problems, 1):
            if problem is not None:
                raise ConfigError(f"image {number} of the query cannot be decoded ({problem}); name another image")
        return pixels_NCHW

    def embed_pixels(self, pixels_NCHW: np.ndarray) -> np.ndarray:
        """uint8 [N, 3, S, S] -> float16 [N, D]. BackboneError if another image tower embedded the database."""
        embedder = self._embedder
        if not same_image_tower(self.made_by, embedder.backbone.describe()):
            raise BackboneError(f"the images of {self.uri} were embedded by another image tower; {OTHERWISE}")
        return embedder.embed_images(pixels_NCHW)

    @cached_property
    def _tower(self) -> TextTower | None:
        """None if the sentence must pass the model in torch."""
        sha256 = self.made_by.get("text_sha256", "")
        for config in self._candidates():
            if (tower := read_text_tower(config, sha256)) is not None:
                return tower
        return None

    def _candidates(self) -> Iterator[BackboneConfig]:
        yield from self.backbones
        yield from self._others()

    @property
    def _embedder(self) -> Embedder:
        with self._loading:  # several threads wait for one load
            if self._loaded is None:
                self._loaded = self._load()
            return self._loaded

    def _load(self) -> Embedder:
        from react_ray.clip.embedder import Embedder  # torch and open_clip, which take seconds to import
        from react_ray.gated.load import load_backbone

        problems = []
        for config in self._candidates():
            try:
                backbone = load_backbone(config, seed=self.seed)
            except ReactRayError as error:
                problems.append(f"{config.name}: {error}")
                continue
            if same_text_tower(self.made_by, backbone.describe()):
                keep_text_tower(backbone, config)
                return Embedder(backbone, 64, "cpu")
            problems.append(f"{config.name} with {config.pretrained or 'its own weights'} has other weights")
        name, tag = self.made_by.get("name", "?"), self.made_by.get("tag") or "no tag"
        raise BackboneError(
            f"{self.uri} was embedded by {name} ({tag}), which cannot be loaded here: {'; '.join(problems)}; "
            f"{OTHERWISE}"
        )


def described(made_by: dict[str, Any]) -> list[BackboneConfig]:
    """What a model may be loaded from that is known by its description alone: the tag of its weights, or the name of
    their file, which lies where the model's JSON lies."""
    name, tag = str(made_by.get("name", "")), str(made_by.get("tag", ""))
    folder = name.rpartition("/")[0]
    if folder and tag.endswith(WEIGHT_FILES):
        tag = join(folder, tag) if not folder.endswith(":/") else f"{folder}/{tag}"
    return [BackboneConfig(name=name, pretrained=tag)]
