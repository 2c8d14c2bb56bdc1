"""CLIP's tokenizer without torch: byte-pair encoding with open_clip's vocabulary, which ships as a file of merges.

open_clip's own tokenizer gives the same ids, but its import takes seconds, because it loads torch, torchvision and timm
(`python -X importtime -c "import open_clip"`). One sentence to search for does not need them.
"""

from __future__ import annotations

import gzip
import html
from functools import cache
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path

import ftfy
import numpy as np
import regex

from react_ray.errors import BackboneError

VOCABULARY = "bpe_simple_vocab_16e6.txt.gz"  # in the folder of open_clip
NUM_MERGES = 48_894
START, END = "<start_of_text>", "<end_of_text>"
WORD_END = "</w>"
WORDS = regex.compile(rf"{START}|{END}|'s|'t|'re|'ve|'m|'ll|'d|\p{{L}}+|\p{{N}}|[^\s\p{{L}}\p{{N}}]+", regex.IGNORECASE)


class Tokenizer:
    """`Tokenizer(77)(["a heron"])` gives int64 [N, 77]: the start, the words, the end, and zeros."""

    def __init__(self, context_length: int) -> None:
        self.context_length = context_length
        self._letters = _letters()
        merges = _merges()
        self._rank = {pair: rank for rank, pair in enumerate(merges)}
        alphabet = list(self._letters.values())
        symbols = [*alphabet, *(letter + WORD_END for letter in alphabet), *map("".join, merges), START, END]
        self._id = {symbol: number for number, symbol in enumerate(symbols)}

    def __call__(self, texts: list[str]) -> np.ndarray:
        tokens_NT = np.zeros((len(texts), self.context_length), np.int64)
        for row, text in enumerate(texts):
            ids = [self._id[START], *self.encode(text), self._id[END]][: self.context_length]
            if len(ids) == self.context_length:
                ids[-1] = self._id[END]  # a longer text is cut
            tokens_NT[row, : len(ids)] = ids
        return tokens_NT

    def encode(self, text: str) -> list[int]:
        """The ids of a text, without start and end."""
        plain = html.unescape(html.unescape(ftfy.fix_text(text)))
        words = WORDS.findall(" ".join(plain.split()).lower())
        return [self._id[symbol] for word in words for symbol in self._symbols(word)]

    def _symbols(self, word: str) -> list[str]:
        """Merges the letters of a word, the most frequent neighbours first."""
        if word in (START, END):
            return [word]
        found = [self._letters[byte] for byte in word.encode("utf-8")]
        found[-1] += WORD_END
        while len(found) > 1:
            first = min(pairwise(found), key=lambda pair: self._rank.get(pair, NUM_MERGES))
            if first not in self._rank:
                break
            merged: list[str] = []
            for symbol in found:
                if merged and (merged[-1], symbol) == first:
                    merged[-1] += symbol
                else:
                    merged.append(symbol)
            found = merged
        return found


@cache
def _letters() -> dict[int, str]:
    """The letter that stands for each byte: itself if it can be printed, otherwise one from behind Latin-1."""
    printed = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in printed]
    return {byte: chr(byte) for byte in printed} | {byte: chr(256 + place) for place, byte in enumerate(others)}


def _merges() -> list[tuple[str, str]]:
    lines = gzip.decompress(_package_file(VOCABULARY).read_bytes()).decode("utf-8").split("\n")
    pairs = [line.split() for line in lines[1 : 1 + NUM_MERGES]]  # the first line is a comment
    return [(first, second) for first, second in pairs]


def _package_file(name: str) -> Path:
    """A file of open_clip, which is found without importing it."""
    spec = find_spec("open_clip")
    if spec is None or not spec.submodule_search_locations:
        raise BackboneError("open_clip is not installed; run `pip install open_clip_torch`")
    return Path(spec.submodule_search_locations[0], name)
