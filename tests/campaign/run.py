"""Runs a campaign: `python -m tests.campaign.run [--share 0.1] [--seed 0] [--doors images answers]`.

`--only images:1234` runs one case and prints its answer. Failures are printed by their kind, each with the command that
repeats one of them. The last line is one JSON object: the cases of each door, how many ended as tracebacks, hangs,
crashes or wrong answers, and the largest memory of a process.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

from tests.campaign.case import CRASH, HANG, MEMORY, TRACEBACK, WRONG
from tests.campaign.supervise import Result, run_cases

DOORS = {
    "sources": 2000,
    "recipes": 1000,
    "metadata": 500,
    "images": 3000,
    "answers": 2500,
    "evaluations": 1500,
}  # cases of a whole campaign
SLOWEST = 3  # cases that are named


def campaign(share: float, seed: int = 0, doors: Sequence[str] = tuple(DOORS), num_workers: int = 2) -> list[Result]:
    """Runs the first `share` of the cases of each door, so that a small campaign is part of every larger one."""
    cases = [(door, number) for door in doors for number in range(round(share * DOORS[door]))]
    return run_cases(cases, seed, num_workers)


def report(results: Sequence[Result], seed: int = 0) -> list[str]:
    """Returns the failures by kind and place, the most frequent first, with one command that repeats each."""
    groups: dict[tuple[str, str, str], list[Result]] = {}
    for result in sorted(results, key=lambda result: (result.door, result.number)):
        if not result.is_right:
            groups.setdefault((result.door, result.kind, result.where), []).append(result)
    ordered = sorted(groups.values(), key=len, reverse=True)
    return [
        f"{len(group)} x {group[0].kind} in {group[0].door}: {group[0].where}\n"
        f"    {group[0].text[:500]}\n"
        f"    python -m tests.campaign.run --seed {seed} --only {group[0].door}:{group[0].number}"
        f"    (also {', '.join(str(result.number) for result in group[1:6]) or 'no other'})"
        for group in ordered
    ]


def summary(results: Sequence[Result]) -> dict[str, Any]:
    kinds = Counter(result.kind for result in results)
    counts = Counter(result.door for result in results)
    return {
        **{door: counts[door] for door in DOORS},
        "tracebacks": kinds[TRACEBACK],
        "hangs": kinds[HANG],
        "crashes": kinds[CRASH],
        "wrong": kinds[WRONG] + kinds[MEMORY],
        "peak_rss_gb": round(max((result.peak_gb for result in results), default=0.0), 2),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--share", type=float, default=1.0, help="of the cases of a whole campaign")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--doors", nargs="+", choices=list(DOORS), default=list(DOORS))
    parser.add_argument("--only", nargs="+", default=[], metavar="DOOR:NUMBER")
    parser.add_argument("--workers", type=int, default=min(2, os.cpu_count() or 1))
    asked = parser.parse_args()
    if asked.only:
        pairs = [one.partition(":")[::2] for one in asked.only]
        results = run_cases([(door, int(number)) for door, number in pairs], asked.seed, 1)
        for result in results:
            print(f"{result.door}:{result.number}: {result.kind} in {result.seconds:.2f} s, {result.peak_gb:.2f} GB")
            print(f"    {result.text}\n    {result.where}")
        return int(not all(result.is_right for result in results))
    started = time.monotonic()
    results: list[Result] = []
    for door in asked.doors:
        of_door = campaign(asked.share, asked.seed, [door], asked.workers)
        results += of_door
        kinds = ", ".join(f"{count} {kind}" for kind, count in Counter(result.kind for result in of_door).most_common())
        slowest = sorted(of_door, key=lambda result: result.seconds, reverse=True)[:SLOWEST]
        named = ", ".join(f"{result.number} ({result.seconds:.1f} s)" for result in slowest)
        print("\n".join([*report(of_door, asked.seed), f"{door}: {kinds}; slowest: {named}"]), flush=True)
    print(f"{time.monotonic() - started:.0f} s with {asked.workers} workers", flush=True)
    print(json.dumps(summary(results)))
    return int(not all(result.is_right for result in results))


if __name__ == "__main__":
    sys.exit(main())
