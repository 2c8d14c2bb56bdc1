"""Divides the names of a tar's members into the keys of samples and suffixes, and says what each suffix is for.

A key may have dots, and so may a suffix: `trail.v2.0001.jpg` is the image of `trail.v2.0001`, while `7.input.jpg` and
`7.output.txt` are image and caption of `7`. A name is divided at its last dot unless its end is a known suffix.
`learn` finds a tar's suffixes with dots from all of its names; a recipe may name one.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property

from react_ray.pairs.formats.suffixes import CAPTION_SUFFIXES, CLASS_SUFFIX, IMAGE_SUFFIXES, JSON_SUFFIX, is_label

IMAGE, CAPTION, JSON, OTHER = "image", "caption", "json", ""
NAMED = "named"  # the mark of the recipe's suffix of captions in Suffixes.encoded
FEW = 8  # suffixes with dots that need not occur twice


@dataclass(frozen=True)
class Suffixes:
    """What the suffixes of one tar are for.

    images: that the recipe names, best first; () = every suffix of images. caption: that it names, "" = the usual ones.
    learnt: roles of suffixes that are not known by themselves.
    """

    images: tuple[str, ...] = ()
    caption: str = ""
    learnt: dict[str, str] = field(default_factory=dict)

    def divide(self, name: str) -> tuple[str, str]:
        """Returns the key of a member, with its folder, and its suffix."""
        folder, slash, base = name.rpartition("/")
        if self._dotted:
            parts = base.split(".")
            for at in range(1, len(parts) - 1):
                suffix = ".".join(parts[at:]).lower()
                if suffix in self._dotted:
                    return folder + slash + ".".join(parts[:at]), suffix
        stem, dot, last = base.rpartition(".")
        return (folder + slash + stem, last.lower()) if dot else (name, "")

    def role(self, suffix: str) -> str:
        """Returns what the recipe takes the suffix for."""
        role = self.kind(suffix)
        if self.images and (role == IMAGE or suffix in self.images):
            return IMAGE if suffix in self.images else OTHER
        if self.caption and (role == CAPTION or suffix == self.caption):
            return CAPTION if suffix == self.caption else OTHER
        return role

    def kind(self, suffix: str) -> str:
        """Returns what the suffix is for by itself, whatever the recipe names."""
        if suffix in self.learnt:
            return self.learnt[suffix]
        last = suffix.rpartition(".")[2]
        if last in IMAGE_SUFFIXES:
            return IMAGE
        if last in CAPTION_SUFFIXES or last == CLASS_SUFFIX:
            return CAPTION
        return JSON if last == JSON_SUFFIX else OTHER

    def image_of(self, suffixes: Iterable[str]) -> list[str]:
        """Returns the suffix of a sample's image: none if it has no image, several if nothing tells which is meant.

        An image whose suffix has no dot goes before those with one, such as `jpg` before `mask.png`.
        """
        found = [suffix for suffix in suffixes if self.role(suffix) == IMAGE]
        if self.images:
            return [suffix for suffix in self.images if suffix in found][:1]
        return sorted([suffix for suffix in found if "." not in suffix] or found)

    def caption_of(self, suffixes: Iterable[str]) -> list[str]:
        """As image_of, for the caption in a member of its own; the label of a class is none if there is any other."""
        found = [suffix for suffix in suffixes if self.role(suffix) == CAPTION]
        if self.caption:
            return found
        usual = [suffix for suffix in CAPTION_SUFFIXES if suffix in found]
        others = [suffix for suffix in found if not is_label(suffix)]
        return usual[:1] or sorted(others) or sorted(found)

    def encoded(self) -> tuple[str, ...]:
        """Returns what a tar's own names have settled, for its chunks; ordinary tars have nothing."""
        named = (f"{self.caption}={NAMED}",) if self.caption else ()
        return (*named, *(f"{suffix}={role}" for suffix, role in sorted(self.learnt.items())))

    @staticmethod
    def decoded(images: tuple[str, ...], names: tuple[str, ...]) -> Suffixes:
        pairs = [name.rpartition("=")[::2] for name in names]
        caption = next((suffix for suffix, role in pairs if role == NAMED), "")
        return Suffixes(images, caption, {suffix: role for suffix, role in pairs if role != NAMED})

    @cached_property
    def _dotted(self) -> set[str]:
        return {suffix for suffix in (*self.images, self.caption, *self.learnt) if "." in suffix}


def learn(stems: dict[str, frozenset[str]], known: Suffixes) -> set[str]:
    """Finds the suffixes with dots. stems: names without their last suffix, with these suffixes.

    `7.input` with an image alone and `7.output` with a caption alone make one whole sample, as do `7` and `7.mask`, so
    `input.jpg` and `mask.png` are suffixes. `v2.0001` with both is a key, and so is `v2.0002` beside it, even if its
    caption is missing: the samples of a tar are named alike. A suffix recurs in other samples, unless it is one of few.
    """
    kinds = {suffixes: frozenset(map(known.kind, suffixes)) for suffixes in set(stems.values())}
    roles = {stem: kinds[suffixes] for stem, suffixes in stems.items()}
    whole = [stem for stem in stems if _is_whole(roles[stem]) and "." in _base(stem)]
    last_parts = {stem.rpartition(".")[2] for stem in whole}
    parents = {stem.rpartition(".")[0] for stem in whole}
    beside: Counter[str] = Counter()  # how often a suffix completes a sample that has a name without it
    between: Counter[str] = Counter()  # how often several such suffixes make a sample
    children = defaultdict(list)
    for stem in stems:
        parent, _, part = stem.rpartition(".")
        if "." not in _base(stem) or _is_whole(roles[stem]) or part in last_parts or parent in parents:
            continue
        key = next((key for key in _shorter(stem) if key in stems), "")
        if not key:
            children[parent].append(stem)
        elif _is_whole(roles[stem] | roles[key]):
            beside.update(f"{stem[len(key) + 1 :]}.{suffix}".lower() for suffix in stems[stem])
    for some in children.values():
        if _is_whole(frozenset().union(*(roles[stem] for stem in some))):
            between.update(f"{stem.rpartition('.')[2]}.{suffix}".lower() for stem in some for suffix in stems[stem])
    recurring = {suffix for suffix, count in (beside + between).items() if count > 1}
    return recurring | (set(beside) if len(beside) <= FEW else set())


def _is_whole(roles: frozenset[str]) -> bool:
    return IMAGE in roles and (CAPTION in roles or JSON in roles)


def _base(stem: str) -> str:
    return stem.rpartition("/")[2]


def _shorter(stem: str) -> list[str]:
    """Returns what remains before each dot of the name, the longest first."""
    parts = _base(stem).split(".")
    folder = stem[: len(stem) - len(_base(stem))]
    return [folder + ".".join(parts[:count]) for count in range(len(parts) - 1, 0, -1)]
