"""NameMatch: finds class names in captions on word boundaries, as REAL does (Parashar et al., CVPR 2024).

Takes the names of all classes and captions; gives the class and the number of every name that a caption contains. Case
and punctuation are ignored: "T-shirt" is the two words "t" and "shirt", in names and in captions. Each word of a
caption is looked up once, so 10,000 names take as long as 10.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence

WORD = re.compile(r"[^\W_]+")


class NameMatch:
    def __init__(self, names: Sequence[tuple[int, int, str]]) -> None:
        """names: (class_id, number of the name, name). A name without letters and digits matches nothing."""
        self._owners: dict[tuple[str, ...], list[tuple[int, int]]] = defaultdict(list)
        lengths: dict[str, set[int]] = defaultdict(set)
        for class_id, number, name in names:
            words = split(name)
            if words:
                self._owners[words].append((class_id, number))
                lengths[words[0]].add(len(words))
        self._lengths = {word: sorted(found) for word, found in lengths.items()}

    def find(self, caption: str | None) -> list[tuple[int, int]]:
        """Returns (class_id, number of the name) for every name in the caption, each once, in ascending order."""
        if not caption:
            return []
        words = split(caption)
        found: set[tuple[int, int]] = set()
        for start, word in enumerate(words):
            for length in self._lengths.get(word, ()):
                found.update(self._owners.get(words[start : start + length], ()))
        return sorted(found)


def split(text: str) -> tuple[str, ...]:
    """Splits a text into words: runs of letters and digits, case folded."""
    return tuple(WORD.findall(text.casefold()))
