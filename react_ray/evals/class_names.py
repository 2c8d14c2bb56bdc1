"""Finds the class of the recipe that a name in an evaluation set means, however it is spelled.

`Golden_Retriever`, `golden-retriever`, `207.Golden_Retriever` and a synonym mean the class `golden retriever`. A file
of names beside the set may tell what identifiers, such as WordNet's, or integers mean.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from unicodedata import normalize

from react_ray.clip.prompts import TargetTask
from react_ray.pairs.names_beside import NamesBeside

WORDNET = re.compile(r"n\d{8}")
NUMBER_BEFORE = re.compile(r"^(?:n\d{8}|\d+)[ ._-]+(?=\D)")  # of folders such as `001.Black_footed_Albatross`


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
        for form in (text, NUMBER_BEFORE.sub("", text)):
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
    """macOS writes the letters of file names apart from their accents (NFD); nearly everybody else composes them."""
    return " ".join(normalize("NFC", name).casefold().replace("_", " ").replace("-", " ").split())
