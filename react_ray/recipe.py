"""Recipe: one experiment, complete and typed; the sum of the sections that lie beside their nouns.

Takes YAML (with at most one `base:`) and `section.field=value` overrides, gives a frozen Recipe.
"""

from __future__ import annotations

import difflib
import re
from typing import Any, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError

from react_ray.clip.config import BackboneConfig, EmbedConfig
from react_ray.clip.prompts import TasksConfig
from react_ray.errors import ConfigError
from react_ray.evals.config import EvaluateConfig
from react_ray.gated.config import CustomizeConfig
from react_ray.index.config import IndexConfig
from react_ray.metadata import shortened, shown
from react_ray.pairs.download_config import DownloadConfig
from react_ray.pairs.source import IngestConfig
from react_ray.places import placed, require_apart
from react_ray.section import Section, field, speed
from react_ray.selection.config import RetrieveConfig
from react_ray.serve_config import ServeConfig
from react_ray.storage import absolute, join, read_bytes
from react_ray.yaml_file import annotation, is_section, parse_word, parse_yaml, typed

ARM_NAME = re.compile(r"[a-z][a-z0-9_]*")
OF_ONE_ARM = re.compile(r"\s*arms\.[^.]*\.")
OF_ARMS = ("customize.", "retrieve.", "tasks.")  # all other fields belong to the run, which the arms share
BASE = "base"  # names the untouched backbone, evaluated beside every arm; base.ARM for an arm with its own backbone


class ClusterConfig(Section):
    """How wide a run is, which never changes its results, with one exception: `embed.precision: auto` is bf16 on
    GPUs."""

    address: str = speed("", "Ray cluster to join ('auto', ray://...); empty starts one on this machine")
    num_cpus: int = speed(0, "cores that a local Ray may use; 0 = all cores", ge=0)
    object_store_gb: float = speed(0.5, "shared memory of a local Ray, GB", gt=0)
    num_actors: int = speed(1, "most actors of an accelerator pool (embed, evaluate)", ge=1)
    min_actors: int = speed(1, "fewest actors of such a pool; more start while parts wait, and stop when none do", ge=1)
    threads_per_actor: int = speed(2, "CPU threads of each such actor, for which Ray reserves as many CPUs", ge=1)
    num_searchers: int = speed(
        2,
        "most actors that share the shards, or the embeddings, during a search; a single machine has one for all",
        ge=1,
    )
    min_searchers: int = speed(
        1,
        "fewest such actors, with which a search begins; more start while queries wait, up to num_searchers",
        ge=1,
    )
    shard_cache_dir: str = speed(
        "",
        "directory on each node for copies of index shards from a remote storage, which all its processes share; empty "
        "= one below the temporary directory",
    )
    shard_cache_gb: float = speed(
        0,
        "GB of such copies per node at most, the least recently used go first; 0 = as many as the disk holds",
        ge=0,
    )
    gpus_per_actor: float = speed(0, "GPUs of each such actor", ge=0)
    roles: bool = speed(False, "place stages on nodes by the Ray label react-role = fetch, embed, index, train")
    part_retries: int = speed(
        2,
        "how often a part is tried again before its stage stops, and how often training workers are restarted",
        ge=0,
    )
    memory_gb: float = speed(0, "memory that a plan may use, GB; 0 = the free memory of the machine", ge=0)


class Recipe(Section):
    name: str = field("", "name of the run in reports; empty = the file name of the recipe, without its suffix")
    seed: int = field(0, "seed of every random choice")
    database: str = speed(
        "", "URI of the database that tasks share: pairs, images, embeddings, index; empty = <out>/database"
    )
    out: str = speed("", "URI of this run; empty = runs/<name>, below the working directory")
    tasks: TasksConfig = field(TasksConfig(), "the classes to recognise")
    backbone: BackboneConfig = field(..., "the frozen CLIP")
    ingest: IngestConfig = field(IngestConfig(), "the source of pairs")
    download: DownloadConfig = field(DownloadConfig(), "downloading the images of a URL list")
    embed: EmbedConfig = field(EmbedConfig(), "embedding the database")
    index: IndexConfig = field(IndexConfig(), "FAISS shards over the vectors")
    retrieve: RetrieveConfig = field(RetrieveConfig(), "queries, search and selection")
    customize: CustomizeConfig = field(CustomizeConfig(), "training on the retrieved pairs")
    evaluate: EvaluateConfig = field(EvaluateConfig(), "evaluation sets and how models are scored on them")
    serve: ServeConfig = speed(ServeConfig(), "answering queries over HTTP")
    cluster: ClusterConfig = speed(ClusterConfig(), "the width of a run and where it runs")
    arms: dict[str, dict[str, Any]] = field(
        {}, "variants that one run trains side by side: name -> {section.field: value}"
    )

    @property
    def fused(self) -> bool:
        """True if embed fetches the images itself, in one pipeline with the model."""
        return self.embed.images and (self.download.fused or not self.download.keep_images)

    @property
    def customized(self) -> BackboneConfig:
        """The model that customize trains and evaluate compares. The model that embeds and retrieves is `backbone`."""
        other = self.customize.backbone
        return BackboneConfig.model_validate(other.model_dump()) if other.name else self.backbone

    def bases(self) -> dict[str, BackboneConfig]:
        """The untouched models that arms are compared with, by name: one per backbone, the recipe's first."""
        wanted = {arm: self.arm(arm).customized for arm in self.arm_names()}
        first = self.customized if self.customized in wanted.values() else next(iter(wanted.values()))
        found = {BASE: first}
        for arm, backbone in wanted.items():
            if backbone not in found.values():
                found[f"{BASE}.{arm}"] = backbone
        return found

    def base_of(self, arm: str) -> str:
        """The name of the untouched model that an arm started from."""
        return next(name for name, backbone in self.bases().items() if backbone == self.arm(arm).customized)

    def arm_names(self) -> list[str]:
        """The names of all arms. A recipe without arms is its own only arm, named "", and lies directly in the run."""
        return list(self.arms) or [""]

    def arms_by_dependence(self) -> list[str]:
        """Arms with a retrieval of their own come last: the random control has the size of the run's retrieval."""
        return sorted(self.arm_names(), key=lambda arm: not self.shares_retrieval(arm))

    def arm(self, name: str) -> Recipe:
        """The recipe with one arm's overrides applied; its `out` is the arm's own folder."""
        if not name:
            return self
        values = self.model_dump() | {"arms": {}, "out": join(self.out, "arms", name)}
        for path, value in self.arms[name].items():
            _assign(values, path, value, Recipe)
        return as_recipe(values)

    def shares_retrieval(self, name: str) -> bool:
        """True if this arm trains on the run's own retrieved pairs."""
        return not name or not any(path.startswith(("retrieve.", "tasks.")) for path in self.arms[name])

    def shares_labels(self, name: str) -> bool:
        """True if this arm trains on the run's own labelled images."""
        own = ("customize.labelled", "customize.labelled_shots")
        asks = ("tasks.", "retrieve.prompts", "retrieve.decontaminate")
        return not name or not any(path in own or path.startswith(asks) for path in self.arms[name])

    def yaml(self, everything: bool = True) -> str:
        """everything=False leaves out the fields that change no result, such as places and widths."""
        values = self.model_dump(mode="json") if everything else self.digested()
        return yaml.safe_dump(values, sort_keys=False, allow_unicode=True)


def load_recipe(uri: str, overrides: list[str] | None = None) -> Recipe:
    """Read a recipe; `overrides` are 'section.field=value' with texts as they stand, and YAML for all other values."""
    values = _read_yaml(uri)
    base = values.pop("base", None)
    if base is not None:
        base = typed(base, str)
        parent = _read_yaml(_beside(uri, str(base)))
        if "base" in parent:
            raise ConfigError(f"{uri}: its base {base} has a base too; a recipe may have one, merge the two")
        values = _merge(parent, values)
    for text in overrides or []:
        path, equals, value = text.partition("=")
        if not equals:
            raise ConfigError(f"{shown(text)} is not section.field=value; write for example seed=1")
        kind = annotation(OF_ONE_ARM.sub("", path), Recipe)
        _assign(values, path, parse_word(value, kind, f"{shortened(path)}: {shown(value)}"), Recipe)
    values = _typed(values)
    recipe = as_recipe(placed(values, uri))
    for name in recipe.arms:
        if not ARM_NAME.fullmatch(name):
            raise ConfigError(f"arms.{name}: an arm is named with a-z, 0-9 and _, beginning with a letter; rename it")
        if name == BASE:
            raise ConfigError(f"arms.{name}: this name is the untouched backbone's; rename it")
        for path in recipe.arms[name]:
            if not path.startswith(OF_ARMS):
                raise ConfigError(
                    f"arms.{name}: {path} is not what an arm can change: {', '.join(OF_ARMS)} with a field, such as "
                    "customize.method: full, or customize.backbone for another model; set it for the whole run, or "
                    "make a recipe of its own"
                )
        recipe.arm(name)
    require_apart(recipe.out, recipe.database, recipe.ingest.source)
    return recipe


def recipe_of(data: bytes, where: str) -> Recipe:
    """The recipe that Recipe.yaml wrote to a run."""
    return as_recipe(_typed(_sections(data, where)))


def _read_yaml(uri: str) -> dict[str, Any]:
    return _sections(read_bytes(uri), uri)


def _sections(data: bytes, where: str) -> dict[str, Any]:
    values = parse_yaml(data, where)
    if not isinstance(values, dict):
        raise ConfigError(f"{where}: a recipe is a mapping of sections; see react_ray/recipes/sample.yaml")
    return values


def _typed(values: dict[str, Any]) -> dict[str, Any]:
    """A field's type says whether a scalar is a word; an arm's values have the types of the fields that they change."""
    arms = values.get("arms")
    for arm in arms.values() if isinstance(arms, dict) else []:
        for path in arm if isinstance(arm, dict) else []:
            arm[path] = typed(arm[path], annotation(path, Recipe))
    return typed(values, Recipe)


def _beside(uri: str, base: str) -> str:
    """A relative `base` lies beside the recipe that names it."""
    if "://" in base or base.startswith(("/", "~")):
        return base
    return join(absolute(uri).rpartition("/")[0], base)


def _merge(parent: dict[str, Any], child: dict[str, Any]) -> dict[str, Any]:
    out = dict(parent)
    for key, value in child.items():
        both = isinstance(value, dict) and isinstance(out.get(key), dict) and key != "arms"
        out[key] = _merge(out[key], value) if both else value
    return out


def _assign(values: dict[str, Any], path: str, value: Any, model: type[BaseModel]) -> None:
    """Set a dotted path, or raise with the nearest name at the level where it went wrong."""
    keys = path.strip().split(".")
    here, at = values, model
    for depth, key in enumerate(keys):
        if key not in at.model_fields:
            raise ConfigError(_unknown(path, key, keys[:depth], at))
        if depth == len(keys) - 1:
            here[key] = value
            return
        inner: Any = at.model_fields[key].annotation
        if not is_section(inner):
            if get_origin(inner) is dict:
                here, rest = _mapping(here, key, path), keys[depth + 1 :]
                if len(rest) > 1 and get_origin(get_args(inner)[1]) is dict:  # arms.NAME.section.field
                    here, rest = _mapping(here, rest[0], path), rest[1:]
                here[".".join(rest)] = value
                return
            raise ConfigError(
                f"{path}: {key} is a single value, it has no fields; write {'.'.join(keys[: depth + 1])}=..."
            )
        here, at = _mapping(here, key, path), inner


def _mapping(values: dict[str, Any], key: str, path: str) -> dict[str, Any]:
    inner = values.setdefault(key, {})
    if not isinstance(inner, dict):
        raise ConfigError(f"{path}: the recipe says {key}: {shown(inner)}, which has no fields; make it a mapping")
    return inner


def _unknown(path: str, key: str, above: list[str], model: type[BaseModel]) -> str:
    path = shortened(path)
    near = difflib.get_close_matches(key, model.model_fields, n=1, cutoff=0.4)
    place = ".".join(above)
    if near:
        return f"{path}: no such field; did you mean {'.'.join([*above, near[0]])}?"
    return f"{path}: no such field; {place or 'a recipe'} has {', '.join(model.model_fields)}"


def as_recipe(values: dict[str, Any]) -> Recipe:
    try:
        return Recipe.model_validate(values)
    except ValidationError as error:
        raise ConfigError("; ".join(_explain(e) for e in error.errors()[:3])) from error


def _explain(error: Any) -> str:
    location = [str(part) for part in error["loc"]]
    path = shortened(".".join(location))
    if error["type"] == "value_error" and "; " in error["msg"]:  # of a section's own check, which says what to do
        return f"{path}: {error['ctx']['error']}"
    if error["type"] == "extra_forbidden":
        model: type[BaseModel] = Recipe
        for name in location[:-1]:
            inner: Any = model.model_fields[name].annotation
            if not is_section(inner):
                return f"{path}: no such field; remove it"
            model = inner
        return _unknown(path, location[-1], location[:-1], model)
    if error["type"] == "missing":
        return f"{path}: missing; add it to the recipe or write {path}=... on the command line"
    said = f"{error['msg'][:1].lower()}{error['msg'][1:]}, not {shown(error['input'])}"
    return f"{path}: {said}; correct it in the recipe or write {path}=..."
