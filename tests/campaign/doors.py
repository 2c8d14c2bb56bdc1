"""Lists the doors of the product that campaigns try, with the number of cases of a whole campaign."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class DoorPlan:
    module: str  # of this package; its `run` takes a Case
    num_cases: int  # of a whole campaign


DOORS = {
    name: DoorPlan(name, num_cases)
    for name, num_cases in {
        "sources": 2000,
        "recipes": 1000,
        "metadata": 500,
        "images": 3000,
        "answers": 2500,
    }.items()
}
