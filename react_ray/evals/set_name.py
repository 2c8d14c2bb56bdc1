"""Names of labelled sets: those of `evaluate.datasets` stand as they are, those of `evaluate.train` after `train.`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar

TRAIN = "train."
MOST_BYTES = 80  # each of which is three characters of a folder's name, if it has to be quoted
LABELLED = "customize.labelled"  # a field of its own, whose set needs no other name
_OPTION_OF: ContextVar[Mapping[str, str]] = ContextVar("option_of", default={})  # noqa: B039 (nobody changes it)


@contextmanager
def named_by_options(option_of: Mapping[str, str]) -> Iterator[None]:
    """Within it, messages name sets by options of a command line, since there is no recipe.

    option_of: name of a set -> option and name, such as `--on birds`.
    """
    token = _OPTION_OF.set({**_OPTION_OF.get(), **option_of})
    try:
        yield
    finally:
        _OPTION_OF.reset(token)


def training_set(dataset: str) -> str:
    """The name of the images that are learned from for a set of evaluate.datasets."""
    return TRAIN + dataset


def field_of(name: str) -> str:
    """The field of the recipe that gives the set, or the option where there is no recipe, for messages."""
    if name in _OPTION_OF.get():
        return _OPTION_OF.get()[name]
    if name == LABELLED:
        return name
    return f"evaluate.{name}" if name.startswith(TRAIN) else f"evaluate.datasets.{name}"


def check_set_name(name: str) -> None:
    """ValueError unless folders, tables and messages can bear the name."""
    if not name.strip(".") or not name.isprintable() or len(name.encode("utf-8", "replace")) > MOST_BYTES:
        raise ValueError(f"{name[:MOST_BYTES]!r} cannot be the name of a set; write a short name of letters")
