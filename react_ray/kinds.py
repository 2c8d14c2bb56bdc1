"""Kinds: every kind of artifact, with the facts that its manifest states and the verb that makes it.

`open_artifact(uri, EMBEDDINGS).facts.dim` is typed; a kind that states no facts has `NoFacts`. The tables inside the
parts are declared in schema.py.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

F = TypeVar("F")


@dataclass(frozen=True)
class Kind(Generic[F]):
    name: str
    facts: type[F]
    made_by: str  # the verb that a user runs to make one


@dataclass(frozen=True)
class NoFacts:
    pass


@dataclass(frozen=True)
class PairsFacts:
    source: dict[str, Any] = field(default_factory=dict)  # `ends` and `files`: where the source was cut into parts
    summary: list[str] = field(default_factory=list)  # how the source was read, and what was not used and why


@dataclass(frozen=True)
class EmbeddingsFacts:
    backbone: dict[str, Any]  # Backbone.describe() of the model that made the vectors
    dim: int
    dtype: str = "float16"
    quarantined: dict[str, str] = field(default_factory=dict)  # part -> why its file could not be read
    loaded_from: dict[str, Any] = field(default_factory=dict)  # the BackboneConfig by which it was loaded


@dataclass(frozen=True)
class QueriesFacts:
    backbone: dict[str, Any]
    dim: int
    num_classes: int


@dataclass(frozen=True)
class AllowedFacts:
    passed: dict[str, int]  # condition -> pairs that pass it alone
    kept: int  # pairs that pass all of them
    total: int


@dataclass(frozen=True)
class SelectedFacts:
    summary: list[str]  # lines for the terminal


@dataclass(frozen=True)
class RetrievedFacts:
    backbone: dict[str, Any]  # of the database's embeddings, from which `text_embedding` was taken
    dim: int
    summary: list[str]


@dataclass(frozen=True)
class IndexFacts:
    kind: str
    keys: list[str]
    num_shards: int  # of each key
    dim: int = 0
    num_lists: int = 0
    backbone: dict[str, Any] = field(default_factory=dict)
    settled: dict[str, Any] = field(default_factory=dict)  # what the first plan decided; deltas and compaction keep it
    covers: dict[str, str] = field(default_factory=dict)  # part of the embeddings -> checksum of its files
    rows: dict[str, int] = field(default_factory=dict)  # key -> vectors
    family: str = "none"
    calibration: dict[str, list[dict[str, Any]]] = field(default_factory=dict)  # key -> rows of measured recall


@dataclass(frozen=True)
class ModelFacts:
    backbone: dict[str, Any]
    method: str
    summary: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class HeadFacts:
    backbone: dict[str, Any]
    method: str  # of the model whose image vectors it classifies
    summary: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class LabelledFacts:
    backbone: dict[str, Any]  # Backbone.describe() of the model that made the vectors
    duplicated: int = 0  # images of a set whose bytes are those of an earlier one


@dataclass(frozen=True)
class PredictionsFacts:
    scores: list[dict[str, Any]]  # dataset, task, metric, value, num_images, model, seed
    fitted: dict[str, Any] = field(default_factory=dict)  # of pictures compared by pixels: seconds, bytes, num_pairs


@dataclass(frozen=True)
class ScoresFacts:
    summary: list[str] = field(default_factory=list)  # lines for the terminal
    gains: list[dict[str, Any]] = field(default_factory=list)  # over the base, by task and metric (protocol.py)


PAIRS = Kind("pairs", PairsFacts, "ingest")
IMAGES = Kind("images", NoFacts, "download")  # or ingest, of a source that has images
EMBEDDINGS = Kind("embeddings", EmbeddingsFacts, "embed")
INDEX = Kind("index", IndexFacts, "index")
QUERIES = Kind("queries", QueriesFacts, "retrieve")
ALLOWED = Kind("allowed", AllowedFacts, "retrieve")
HITS = Kind("hits", NoFacts, "retrieve")
MATCHED = Kind("matched", NoFacts, "retrieve")
CANDIDATES = Kind("candidates", NoFacts, "retrieve")
CANDIDATE_FACTS = Kind("facts", NoFacts, "retrieve")
REFERENCES = Kind("references", NoFacts, "retrieve")
SELECTED = Kind("selected", SelectedFacts, "retrieve")
RETRIEVED = Kind("retrieved", RetrievedFacts, "retrieve")
MODEL = Kind("model", ModelFacts, "customize")
FEATURES = Kind("features", NoFacts, "customize")
HEAD = Kind("head", HeadFacts, "customize")
LABELLED_FEATURES = Kind("labelled_features", LabelledFacts, "evaluate")
CLASS_VECTORS = Kind("class_vectors", LabelledFacts, "evaluate")
PREDICTIONS = Kind("predictions", PredictionsFacts, "evaluate")
OUTPUTS = Kind("outputs", NoFacts, "evaluate")  # what a model made of the images of one set, by one protocol
SCORES = Kind("scores", ScoresFacts, "evaluate")

KINDS: dict[str, Kind[Any]] = {kind.name: kind for kind in list(globals().values()) if isinstance(kind, Kind)}
