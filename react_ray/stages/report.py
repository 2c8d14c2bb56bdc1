"""report: the artifacts of a run -> `summary.json`, `report.html` and the table for the terminal.

This stage only reads artifacts; every figure that it shows was written by another stage.
"""

from __future__ import annotations

import json

from react_ray.recipe import Recipe
from react_ray.report.page import render
from react_ray.report.table import render_table
from react_ray.stages.reporting.contents import gather
from react_ray.stages.reporting.summary import summarise
from react_ray.storage import join, open_storage


def run(recipe: Recipe) -> str:
    """Writes summary.json and report.html below `out`; returns the table and the place of the report."""
    storage = open_storage(recipe.out)
    summary = summarise(recipe)
    storage.write("summary.json", (json.dumps(summary, indent=1) + "\n").encode())
    data = gather(recipe, summary)
    storage.write("report.html", render(data).encode())
    return f"{render_table(data)}\n\nreport: {join(storage.uri, 'report.html')}"
