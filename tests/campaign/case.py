"""Defines Case, one numbered input of a campaign, and `judge`, which says how the product answered it.

A door is a function that makes the input of a case, hands it to the product and checks the answer. It returns a few
words on the outcome. `Wrong` is raised for an answer that is not right; a ReactRayError in one line that ends with
what to do is a right answer to a bad input; any other exception is a traceback that a user would see.
"""

from __future__ import annotations

import random
import re
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from react_ray.errors import ReactRayError

# Kinds of outcomes. The first two are right answers, and the supervisor adds the last three.
OK, REFUSED = "ok", "refused"
WRONG, TRACEBACK = "wrong", "traceback"
HANG, CRASH, MEMORY = "hang", "crash", "memory"

LONGEST_MESSAGE = 2000  # characters of one line that a terminal can still show
ADVICE = re.compile(r"[;:?,] ?[^;:]*\w+\W+\w+[^;]*$")  # the last clause, of two words or more
VARIABLE = re.compile(r"/tmp/\S*|\d+")  # what differs between messages of one kind
OURS = re.compile(r"/react_ray/(react_ray/.*|tests/.*)")


class Wrong(Exception):
    """The product answered, and the answer is not right: a row is lost, a value differs, a reason is missing."""


@dataclass(frozen=True)
class Case:
    door: str
    number: int
    seed: int
    folder: Path  # empty, and deleted after the case

    def rng(self) -> random.Random:
        """The same numbers on every machine and in every version of Python."""
        return random.Random(f"{self.seed}/{self.door}/{self.number}")


@dataclass(frozen=True)
class Outcome:
    kind: str
    text: str
    where: str = ""  # the innermost line of ours, by which equal failures are grouped


Door = Callable[[Case], str]


def judge(door: Door, case: Case) -> Outcome:
    try:
        return Outcome(OK, door(case))
    except Wrong as error:
        return Outcome(WRONG, str(error), VARIABLE.sub("#", str(error))[:60])
    except ReactRayError as error:
        if complaint := complaint_about(str(error)):
            return Outcome(WRONG, f"{complaint}: {type(error).__name__}: {str(error)[:400]!r}", complaint)
        return Outcome(REFUSED, str(error))
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        return Outcome(TRACEBACK, _text(error), _where(error))


def complaint_about(message: str) -> str:
    """Returns what is wrong with a message to a user, or "": it has to be one line that ends with what to do."""
    if len(message.splitlines()) != 1:
        return "a message of several lines"
    if any(not character.isprintable() for character in message):
        return "a message with control characters"
    if len(message) > LONGEST_MESSAGE:
        return f"a message of more than {LONGEST_MESSAGE} characters"
    if not ADVICE.search(message):
        return "a message that does not say what to do"
    return ""


@contextmanager
def must_work(what: str) -> Iterator[None]:
    """A refusal within is wrong, because `what` is a harmless form of a valid input."""
    try:
        yield
    except ReactRayError as error:
        raise Wrong(f"{what} is refused: {type(error).__name__}: {error}") from error


def check(condition: bool, otherwise: str) -> None:
    if not condition:
        raise Wrong(otherwise)


def numpy_rng(rng: random.Random) -> np.random.Generator:
    return np.random.default_rng(rng.getrandbits(64))


def _text(error: BaseException) -> str:
    notes = getattr(error, "__notes__", [])  # what a door added on its input
    return " | ".join([f"{type(error).__name__}: {str(error)[:300]}", *notes])


def _where(error: BaseException) -> str:
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if OURS.search(frame.filename)]
    if not frames:
        return type(error).__name__
    last = frames[-1]
    found = OURS.search(last.filename)
    assert found is not None
    return f"{type(error).__name__} at {found[1]}:{last.lineno} {last.name}"
