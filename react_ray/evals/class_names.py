"""Finds the class of the recipe that a name in an evaluation set means, however it is spelled.

`Golden_Retriever`, `golden-retriever`, `207.Golden_Retriever` and a synonym mean the class `golden retriever`. A file
of names beside the set may tell what identifiers, such as WordNet's, or integers mean.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from react_ray.clip.prompts import TargetTask
from react_ray.storage import join, open_storage

# In the order in which they are looked for.
NAME_FILES = (
    *("classes.txt", "classnames.txt", "class_names.txt", "__classnames.txt", "labels.txt"),
    *("synset_words.txt", "LOC_synset_mapping.txt", "words.txt"),
)
SPLITS = frozenset(("train", "training", "val", "valid", "validation", "test", "testing", "dev", "eval"))
WORDNET = re.compile(r"n\d{8}")
NUMBER_BEFORE = re.compile(r"(?:n\d{8}|\d+)[ ._-]+(?=\D)")  # of folders such as `001.Black_footed_Albatross`
PARTS = re.compile(r"[\s,;|]+")  # between an identifier and its names


@dataclass(frozen=True)
class NamesBeside:
    """A file of names, one class a line: the names of integers, or what identifiers at the begin of lines mean."""

    uri: str = ""
    lines: tuple[str, ...] = ()
    names_of: dict[str, tuple[str, ...]] = field(default_factory=dict)  # identifier -> names


def names_beside(folder: str) -> NamesBeside:
    """Reads the first of NAME_FILES in the folder of a set, or above it if that is the folder of a split."""
    above, _, name = folder.rpartition("/")
    for place in (folder, above) if name.casefold() in SPLITS else (folder,):
        storage = open_storage(place or "/")
        for name in NAME_FILES:
            if storage.exists(name):
                text = storage.read(name).decode("utf-8-sig", "replace")
                lines = tuple(line.strip() for line in text.splitlines() if line.strip())
                return NamesBeside(join(place, name), lines, dict(_divided(line) for line in lines))
    return NamesBeside()


def spellings(task: TargetTask) -> dict[str, str]:
    """Returns the class that each name means, by its spelling; own names go before synonyms of others."""
    found = {
        spelling(name): known
        for known, names in zip(task.class_names, task.synonyms, strict=True)
        for name in [known, *names]
    }
    return found | {spelling(known): known for known in task.class_names}


def class_of(name: str, known: dict[str, str], beside: NamesBeside) -> str | None:
    """Returns the class that a name means, or None. known: from `spellings`."""
    for text in (name, *beside.names_of.get(name, ())):
        for form in (text, NUMBER_BEFORE.sub("", text, count=1)):
            if found := known.get(spelling(form)):
                return found
    return None


def advice(unknown: Sequence[str]) -> str:
    """Says what to do about names that are no class."""
    if all(WORDNET.match(name) for name in unknown[:10]):
        return (
            f"{unknown[0]} is an identifier of WordNet: write what each of them means into classes.txt beside the set, "
            f"with lines such as `{unknown[0][:9]} name, synonym`"
        )
    return (
        "correct the labels, write `label name` lines into classes.txt beside the set, or add the classes to the task"
    )


def spelling(name: str) -> str:
    return " ".join(name.casefold().replace("_", " ").replace("-", " ").split())


def _divided(line: str) -> tuple[str, tuple[str, ...]]:
    """Divides `n01440764 tench, Tinca tinca` into the identifier and its names."""
    identifier, *rest = PARTS.split(line, maxsplit=1)
    names = (name.strip() for name in re.split(r"[,;|\t]", rest[0] if rest else ""))
    return identifier, tuple(name for name in names if name)
