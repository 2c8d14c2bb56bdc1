"""The bodies of requests, as OpenAPI describes them. What depends on the recipe or the database is checked later."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, model_validator

MOST_CHARACTERS = 4096  # of a text, of which a CLIP reads about 77 tokens
MOST_CLASSES, MOST_NAMES, MOST_TEMPLATES, MOST_FILTERS, MOST_TERMS = 2000, 50, 200, 50, 64
RENAMED = {"pool": "pairs_per_class", "rejected": "exclude"}  # fields of an earlier version
KINDS = ("text", "image", "embedding", "pair_id", "url", "sum")

Text = Annotated[str, StringConstraints(max_length=MOST_CHARACTERS)]
Name = Annotated[str, StringConstraints(max_length=500)]
Filters = Annotated[list[Text], Field(max_length=MOST_FILTERS)]
PairId = Annotated[int, Field(ge=0, lt=2**53)]
Number = Annotated[float, Field(allow_inf_nan=False)]
KeyName = Literal["", "image", "text", "both"]


class Body(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Term(Body):
    """One of text, image, embedding, pair_id or url."""

    text: Text | None = None
    image: Annotated[str | None, Field(description="an encoded image (JPEG, PNG, WebP, ...) in base64")] = None
    embedding: Annotated[list[Number] | None, Field(max_length=65_536)] = None
    pair_id: PairId | None = None
    side: Annotated[
        Literal["", "image", "text"], Field(description="of pair_id; empty = its image if it has a vector")
    ] = ""
    url: Annotated[Text | None, Field(description="of an image, if the server fetches")] = None

    @model_validator(mode="after")
    def _is_one(self) -> Term:
        given = [name for name in KINDS if getattr(self, name, None) is not None]
        if len(given) != 1:
            said = f"it has {' and '.join(given)}" if given else "it has none"
            raise ValueError(f"a query has exactly one of {', '.join(KINDS)}, and {said}; give one")
        return self


class Weighted(Term):
    weight: Annotated[Number, Field(description="may be negative", ge=-1000, le=1000)] = 1.0


class Query(Term):
    """As a term, or the weighted sum of terms: of their unit vectors, and of length 1 again."""

    sum: Annotated[list[Weighted] | None, Field(min_length=1, max_length=MOST_TERMS)] = None


class Searching(Body):
    """What all searches have in common."""

    key: Annotated[
        KeyName, Field(description="side of a pair that is compared; both = ranked by z; empty = as suits the query")
    ] = ""
    filters: Filters = []
    recall: Annotated[float | None, Field(gt=0, le=1, description="target; null = that of the recipe")] = None
    allow_partial: Annotated[bool, Field(description="answer without groups of shards that are down")] = False
    timeout_ms: Annotated[int | None, Field(ge=1, le=3_600_000)] = None


class SearchBody(Searching):
    query: Query | None = None
    queries: list[Query] | None = None
    k: Annotated[int, Field(ge=1, le=10_000_000)] = 20
    dedup: Annotated[
        float, Field(ge=0, le=1, description="cosine of images from which on hits are folded into the better; 0 = off")
    ] = 0.0
    columns: Annotated[list[Name], Field(max_length=200, description="more columns of the pairs")] = []


class NamedClass(Body):
    name: Name
    synonyms: Annotated[list[Name], Field(max_length=MOST_NAMES)] = []


Names = Annotated[list[Name], Field(min_length=1, max_length=MOST_NAMES + 1, description="a name and its synonyms")]


def _named(value: Any) -> Any:
    """A class as recipes have it."""
    if isinstance(value, str):
        return {"name": value}
    return {"name": value[0], "synonyms": value[1:]} if isinstance(value, list) and value else value


AnyClass = Annotated[NamedClass, BeforeValidator(_named, json_schema_input_type=NamedClass | Name | Names)]


class ClassList(Body):
    classes: Annotated[list[AnyClass] | None, Field(max_length=MOST_CLASSES)] = None
    task: Annotated[Name | None, Field(description="built in, or of the recipe; instead of classes")] = None
    templates: Annotated[
        Annotated[list[Name], Field(max_length=MOST_TEMPLATES)] | Literal[""],
        Field(description="with {} for a name; empty = those of the recipe, or of the task"),
    ] = ""


class Selecting(ClassList):
    """A class list, and what is changed in the recipe's section `retrieve` for it; null or empty = nothing."""

    key: KeyName = ""
    pairs_per_class: Annotated[int | None, Field(ge=1, le=10_000_000)] = None
    filters: Annotated[Filters, Field(description="beside those of the recipe")] = []
    exclude: Annotated[list[PairId], Field(max_length=1_000_000, description="beside those of the recipe")] = []
    min_score: Annotated[float | None, Field(ge=-1, le=1, description="that of the recipe counts if it is higher")] = (
        None
    )
    dedup: Annotated[float | None, Field(ge=0, le=1, description="dedup.cosine; 0 = off")] = None
    exclusive: bool | None = None
    prompts: Literal["", "averaged", "separate"] = ""


class ClassesBody(Searching, Selecting):
    filters: Annotated[Filters, Field(description="beside those of the recipe")] = []
    per_class: Annotated[int, Field(ge=1, le=500, description="hits of each class that are described")] = 24


class RecipeBody(Selecting):
    name: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9 ._-]{0,99}$")] = "classes"


class Hit(BaseModel):
    pair_id: int
    score: float
    z: float | None
    key: Literal["image", "text"]
    caption: str | None
    url: str | None
    image: str | None
    columns: dict[str, Any]
    folded: list[int]


class Hits(BaseModel):
    hits: list[Hit]


class Timings(BaseModel):
    encode: float
    search: float
    metadata: float
    total: float


class Answered(BaseModel):
    recall: float | None
    coverage: float
    index_version: str
    timings_ms: Timings


class SearchAnswer(Answered):
    results: list[Hits]


class ClassHit(Hit):
    prompt: str


class ClassFound(BaseModel):
    name: str
    synonyms: list[str]
    hits: Annotated[list[ClassHit], Field(description="first those that are selected, then those that come next")]
    num_selected: int
    scores: Annotated[list[float], Field(description="of all hits, also those that are not described")]
    named: float | None
    z: float | None
    flagged: str | None


class ClassesAnswer(Answered):
    classes: list[ClassFound]
    retrieve: Annotated[dict[str, Any], Field(description="the section of the recipe that selects so, without exclude")]
    advice: Annotated[str | None, Field(description="what most classes without a match point to")]
    differs: Annotated[list[str], Field(description="what `retrieve` does besides; empty = it selects these pairs")]


class RecipeAnswer(BaseModel):
    yaml: str
    command: str


class Problem(BaseModel):
    code: str
    message: str
    field: str | None


class ErrorAnswer(BaseModel):
    error: Problem
