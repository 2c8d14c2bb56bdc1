"""Writes the first recipe of a task, with comments: what `react-ray init` asks for, and what a look at the source adds.

A recipe needs class names, a backbone and a source. The rest of what is written here are the fields that people change
first; all others keep their defaults.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import yaml

from react_ray.clip.prompts import SYNONYMS
from react_ray.errors import ConfigError
from react_ray.pairs.columns import Columns, find_columns
from react_ray.pairs.source import IngestConfig, Source, open_source

# name and tag of the weights: small for CPUs, and the larger one that a GPU of 16 GB embeds and trains with
MODEL_OF_CPU, MODEL_OF_GPU = ("ViT-B-32", "openai"), ("ViT-L-14", "openai")
FILES_OF_CLASSES = (".txt", ".json")
DEMO_CLASSES = ("cat", "dog", "horse", "owl", "butterfly", "snail", "octopus")
DEMO_MODEL = ("sample://base_clip.json", "sample://base_clip.safetensors")
DEMO_SOURCE = "sample://pool.parquet"
TEMPLATES, DEMO_TEMPLATES = ("a photo of a {}.",), ("{}", "an emoji of {}", "icon of {}")  # of photos, of drawings
DEMO_K = 20  # the demo's pool has between 5 and 75 pictures of each of its classes


@dataclass(frozen=True)
class Look:
    """What a look at the first row of a source shows."""

    source: str
    columns: Columns
    said: str  # for the terminal

    @property
    def keys(self) -> tuple[str, ...]:
        """The sides of a pair that a search can use without downloading a whole list of URLs."""
        found = self.columns
        if found.vectors:
            return ("image",) * bool(found.image_vector) + ("text",) * bool(found.text_vector)
        return ("image",) * bool(found.image) + ("text",) * bool(found.caption)

    @property
    def is_list(self) -> bool:
        """True if the pictures are on the web, so that only those that are retrieved are downloaded."""
        return not self.columns.image and bool(self.columns.url)


def look(source: str) -> Look:
    """Opens a source as `ingest` will. ConfigError or StorageError as `open_source`, if it cannot be read."""
    opened: Source = open_source(IngestConfig(source=source, max_rows=1, max_unusable=1))
    found = find_columns(opened.schema, opened.config)
    if not found.caption and not found.image and not found.vectors:
        raise ConfigError(
            f"{source} is a list of URLs without captions, of which nothing can be searched before it is downloaded; "
            "name a source with captions, or write a recipe with download.of=pairs by hand"
        )
    pictures = "images" if found.image else "URLs of images" if found.url else "vectors without images"
    captions = "captions" if found.caption else "no captions"
    vectors = " and published vectors" if found.vectors and (found.image or found.url) else ""
    return Look(source, found, f"{pictures} with {captions}{vectors}; {opened.summary()[0].partition('; ')[2]}")


def parse_classes(text: str) -> tuple[list[str | list[str]], str]:
    """(class names, "") of a text with commas between classes and | between synonyms; ([], the file) of a file."""
    if text.strip().lower().endswith(FILES_OF_CLASSES):
        return [], text.strip()
    classes: list[str | list[str]] = []
    for part in filter(None, (part.strip() for part in text.split(","))):
        names = [name.strip() for name in part.split(SYNONYMS)]
        classes.append(names[0] if len(names) == 1 else names)
    if not classes:
        raise ConfigError("no class names; write them with commas between, such as --classes 'grey heron, ibis'")
    return classes, ""


@dataclass(frozen=True)
class FirstRecipe:
    file: str  # where the recipe will lie
    look: Look
    classes: list[str | list[str]]
    model: tuple[str, str]  # name and weights
    out: str
    classes_file: str = ""  # instead of `classes`
    test: str = ""  # URI of labelled images
    on_gpu: bool = False
    num_cpus: int = 1
    keys: tuple[str, ...] = ()  # empty = all that the source has
    templates: tuple[str, ...] = TEMPLATES
    k: int = 100

    @property
    def before_training(self) -> str:
        """The verb after which the pictures of each class can be looked at."""
        return "download" if self.look.is_list else "retrieve"

    def text(self) -> str:
        """The recipe, in YAML with comments."""
        return "\n".join([self._head(), self._tasks(), self._model(), self._source(), self._training(), self._scores()])

    def _head(self) -> str:
        last = self.before_training
        return f"""\
# The recipe of a task, written by `react-ray init`. A field that is not here keeps its default: `react-ray help` lists
# all of them, and any can be set on the command line, such as `react-ray run {self.file} seed=1`.
#   react-ray run {self.file} --until {last}    # finds the pictures of each class; look at them before you train
#   react-ray run {self.file}                     # goes on to the model and the report
name: {_yaml(PurePosixPath(self.file).stem)}
out: {_yaml(self.out)}    # the model and the report; the database of pairs, vectors and index lies below it
# database: /data/web    # a place of its own for the database, which several tasks can share
"""

    def _tasks(self) -> str:
        said = (
            "# What is to be told apart: a name per class, or in brackets all names of a class, the main one first.\n"
        )
        if self.classes_file:
            return f"{said}tasks:\n  file: {_yaml(self.classes_file)}\n"
        names = "".join(f"    - {_yaml(one)}\n" for one in self.classes)
        return f"""\
{said}tasks:
  class_names:
{names}\
  templates: {_yaml(list(self.templates))}    # the sentences that are searched; more of them find more pictures
"""

    def _model(self) -> str:
        name, weights = self.model
        of = "the model that made the vectors of the source" if self.look.columns.vectors else "the CLIP to improve"
        return f"""\
# {of[:1].upper()}{of[1:]}: a name and a tag of open_clip, or files of your own. It also searches.
backbone:
  name: {_yaml(name)}
  pretrained: {_yaml(weights)}
"""

    def _source(self) -> str:
        lines = ["# Where pairs come from. This is what was seen there:", f"# {self.look.said}", "ingest:"]
        lines += [f"  source: {_yaml(self.look.source)}"]
        lines += ["  # max_rows: 10000    # reads only the first rows, for a try"]
        if self.look.is_list:
            lines += ["", "# Captions are searched, and only the pictures that they find are downloaded."]
            lines += ["download:", "  of: retrieved"]
            lines += ['  # user_agent: "react_ray/{version} (you@example.org)"    # tells site owners how to reach you']
        wanted = self.keys or self.look.keys
        if not self.look.columns.vectors and wanted != ("image", "text"):
            unused = "captions" if "text" not in wanted else "images"
            lines += ["", "embed:", f"  {unused}: false    # only the side of a pair that is searched gets vectors"]
        keys = ", ".join(wanted)
        lines += ["", "retrieve:", f"  keys: [{keys}]    # which side of a pair is compared with the sentences"]
        lines += [f"  k: {self.k}    # hits per sentence and key; more give more pairs, of which the last match less"]
        lines += ["  # pairs_per_class: 200    # keeps only the best of each class"]
        return "\n".join(lines) + "\n"

    def _training(self) -> str:
        lines = ["# Batch, epochs, warm-up and learning rates follow from the number of pairs; set them to choose."]
        method, said = "gated-image", "new blocks beside the frozen model; locked-text trains the image tower itself"
        if not self.look.columns.caption:
            method, said = "linear", "a head on the stored vectors, because the other methods need captions"
        lines += ["customize:", f"  method: {method}    # {said}"]
        if self.on_gpu:
            lines += ["  gpus_per_worker: 1", "  precision: bf16", "", "cluster:", "  gpus_per_actor: 1"]
        elif self.num_cpus > 1:
            lines += [f"  threads_per_worker: {self.num_cpus}    # cores that the training uses"]
        return "\n".join(lines) + "\n"

    def _scores(self) -> str:
        said = "# Labelled images (class folders, or Parquet with columns image and label) to score on. Without any,\n"
        said += "# the report shows what was retrieved and how the training went, and no accuracy.\n"
        if self.test:
            return f"{said}evaluate:\n  datasets:\n    test: {_yaml(self.test)}\n"
        return f"{said}# evaluate:\n#   datasets:\n#     test: my-test.parquet\n"


def _yaml(value: Any) -> str:
    """One value in YAML, on one line."""
    listed = yaml.safe_dump([value], default_flow_style=True, allow_unicode=True, width=1 << 30)
    return listed.strip()[1:-1]
