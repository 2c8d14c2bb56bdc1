"""Reads a file of names that lies beside labelled images, such as classes.txt: what integers and identifiers mean."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from react_ray.storage import Storage, join, open_storage

# In the order in which they are looked for.
NAME_FILES = (
    *("classes.txt", "classnames.txt", "class_names.txt", "__classnames.txt", "labels.txt"),
    *("synset_words.txt", "LOC_synset_mapping.txt", "words.txt"),
)
SPLITS = frozenset(("train", "training", "val", "valid", "validation", "test", "testing", "dev", "eval"))
TEMPLATES = "zeroshot_classification_templates.txt"  # beside classnames.txt in CLIP_benchmark's layout (its builder.py)
PARTS = re.compile(r"[\s,;|]+")  # between an identifier and its names


@dataclass(frozen=True)
class NamesBeside:
    """A file of names, one class a line: the names of integers, or what identifiers at the begin of lines mean."""

    uri: str = ""
    lines: tuple[str, ...] = ()
    names_of: dict[str, tuple[str, ...]] = field(default_factory=dict)  # identifier -> names
    templates: tuple[str, ...] = ()  # of prompts, from TEMPLATES beside the file; {} stands for a name

    def name_of(self, label: str) -> str:
        """Returns the first name of a label that is an integer or an identifier, or else the label."""
        if label.isdecimal():
            return self.lines[int(label)] if int(label) < len(self.lines) else label
        return next(iter(self.names_of.get(label, ())), label)


def names_beside(folder: str) -> NamesBeside:
    """Reads the first of NAME_FILES in the folder of a set, or above it if that is the folder of a split."""
    above, _, name = folder.rpartition("/")
    for place in (folder, above) if name.casefold() in SPLITS else (folder,):
        storage = open_storage(place or "/")
        for name in NAME_FILES:
            if storage.exists(name):
                lines = _lines(storage, name)
                asked = _lines(storage, TEMPLATES) if storage.exists(TEMPLATES) else ()
                templates = tuple(line.replace("{c}", "{}") for line in asked)
                return NamesBeside(join(place, name), lines, dict(_divided(line) for line in lines), templates)
    return NamesBeside()


def _lines(storage: Storage, name: str) -> tuple[str, ...]:
    text = storage.read(name).decode("utf-8-sig", "replace")
    return tuple(line.strip() for line in text.splitlines() if line.strip())


def _divided(line: str) -> tuple[str, tuple[str, ...]]:
    """Divides `n01440764 tench, Tinca tinca` into the identifier and its names."""
    identifier, *rest = PARTS.split(line, maxsplit=1)
    names = (name.strip() for name in re.split(r"[,;|\t]", rest[0] if rest else ""))
    return identifier, tuple(name for name in names if name)
