"""NameMatch: captions that contain a name of a class on word boundaries, the control that REAL (Parashar et al., CVPR 2024) is.

Takes names by class and captions, gives (caption, class, name) for every name that occurs. Case and punctuation do not
count: "T-shirt" is the two words t and shirt, in the name as in the caption. One look at each word of a caption, however
many names there are: 10,000 names cost what 10 cost. Next: screen.py.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence

WORD = re.compile(r"[^\W_]+")


class NameMatch:
    def __init__(self, names: Sequence[tuple[int, int, str]]) -> None:
        """names: (class_id, number of the name, name); a name without any letter or digit matches nothing."""
        self._owners: dict[tuple[str, ...], list[tuple[int, int]]] = defaultdict(list)
        lengths: dict[str, set[int]] = defaultdict(set)
        for class_id, number, name in names:
            words = split(name)
            if words:
                self._owners[words].append((class_id, number))
                lengths[words[0]].add(len(words))
        self._lengths = {word: sorted(found) for word, found in lengths.items()}

    def find(self, caption: str | None) -> list[tuple[int, int]]:
        """(class_id, number of the name) of every name in the caption, each once, in order."""
        if not caption:
            return []
        words = split(caption)
        found: set[tuple[int, int]] = set()
        for start, word in enumerate(words):
            for length in self._lengths.get(word, ()):
                found.update(self._owners.get(words[start : start + length], ()))
        return sorted(found)


def split(text: str) -> tuple[str, ...]:
    """The words of a text: runs of letters and digits, case folded."""
    return tuple(WORD.findall(text.casefold()))
