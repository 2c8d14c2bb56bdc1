"""report: whatever artifacts of a run exist -> `summary.json`, `report.html`, `table.md` and the text for the terminal.

This stage only reads artifacts; every figure that it shows was written by another stage, or follows from one.
"""

from __future__ import annotations

import json

from react_ray.evals.score import ZERO_SHOT
from react_ray.recipe import Recipe
from react_ray.report.data import ReportData
from react_ray.report.page import render
from react_ray.report.score_table import score_tables
from react_ray.report.table import confused, markdown_table, render_table
from react_ray.report.verdict import verdict
from react_ray.stages.reporting.contents import gather
from react_ray.stages.reporting.summary import SUMMARY, costs_of, summarise
from react_ray.storage import join, open_storage

REPORT, TABLE = "report.html", "table.md"


def run(recipe: Recipe) -> str:
    """Writes summary.json, report.html and, with scores, table.md below `out`; returns the verdict, the table and the
    place of the report.

    ArtifactMissing if nothing of the recipe exists yet.
    """
    storage = open_storage(recipe.out)
    costs = costs_of(storage)
    data = gather(recipe, costs)
    storage.write(SUMMARY, (json.dumps(summarise(data, costs), indent=1) + "\n").encode())
    storage.write(REPORT, render(data).encode())
    if data.scored():
        storage.write(TABLE, markdown_table(data).encode())
    return f"{text(data)}\nreport: {join(storage.uri, REPORT)}"


def text(data: ReportData) -> str:
    """Returns what the terminal shows: what the scores mean, then the scores, or what is there and what comes next."""
    blocks = ["".join(f"{sentence.text}\n" for sentence in verdict(data))]
    blocks.append(render_table(data) if data.scored() else "")
    blocks.append(confused(data))
    others = [score for score in data.scores if score.protocol != ZERO_SHOT]
    blocks.append(score_tables(others, {}, data.score_gains))
    blocks.append("".join(f"{step.state:<6} {step.verb:<10} {step.text}".rstrip() + "\n" for step in data.steps))
    blocks.append(f"{data.next_step}\n" if data.next_step else "")
    return "\n".join(block for block in blocks if block)
