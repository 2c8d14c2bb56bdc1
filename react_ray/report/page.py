"""Renders ReportData as one HTML file that needs no network and no other file.

The page leads from the result to its reasons: the verdict, the table, curves over labelled images, the scores of other
protocols, what to try next, the classes and images behind the scores, the retrieved pairs, the training curves, the
cost of each stage, and the recipe that repeats the run. A section appears if there is something to show in it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from html import escape

from react_ray.report.charts import legend, line_chart
from react_ray.report.class_gallery import sections
from react_ray.report.class_gallery_style import GALLERY_CSS
from react_ray.report.classes import class_table, confusions, flips
from react_ray.report.data import ReportData
from react_ray.report.html_table import column, html_table, html_tasks
from react_ray.report.intervals import method
from react_ray.report.label_curves import label_curves
from react_ray.report.numbers import duration, size
from react_ray.report.protocols import protocols
from react_ray.report.script import SCRIPT, policy
from react_ray.report.style import CSS, marks
from react_ray.report.verdict import verdict

MAX_FILE_BYTES = 3_900_000
CODE = re.compile("`([^`]+)`")
FLIP_SHARE = 0.25  # of the bytes that are left for pictures

CURVES = (
    ("loss", "Training loss", "nats"),
    ("lr", "Learning rate", "with warm-up and decay"),
    ("logit_scale", "Logit scale", "inverse temperature"),
    ("gate_attn_abs_mean", "Attention gates", "mean |tanh α| over the gated blocks"),
    ("gate_dense_abs_mean", "Dense gates", "mean |tanh α| over the gated blocks"),
)


def render(data: ReportData) -> str:
    head, classes, mistakes = (
        _head(data) + _scores(data) + label_curves(data) + protocols(data) + _advice(data),
        class_table(data),
        confusions(data),
    )
    after = _curves(data) + _stages(data) + _notes(data) + _recipe(data)
    # 20,000 bytes are for the frame and the names of classes.
    budget = MAX_FILE_BYTES - len((CSS + GALLERY_CSS + SCRIPT + head + classes + mistakes + after).encode()) - 20_000
    flipped = flips(data, int(FLIP_SHARE * budget))
    retrieved = _gallery(data, budget - len(flipped.encode()))
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy(SCRIPT)}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(data.name)} – react_ray report</title><style>{CSS}{GALLERY_CSS}</style></head>"
        f"<body>{marks()}<main>{head}{flipped}{classes}{mistakes}{retrieved}{after}"
        "<footer>Written by react_ray. This file is complete: it loads nothing else. The same recipe on the same type "
        "of processor gives the same numbers; another type rounds otherwise, which can flip single images.</footer>"
        f"</main><script>{SCRIPT}</script></body></html>\n"
    )


def _head(data: ReportData) -> str:
    facts = [("seeds" if data.other_seeds else "seed", ", ".join(str(s) for s in _seeds(data))), *data.facts]
    shown = "".join(f"<div><dt>{escape(what)}</dt><dd>{escape(str(value))}</dd></div>" for what, value in facts)
    said = "".join(
        f'<p class="verdict{" lead" if i == 0 else ""} {sentence.kind}">{escape(sentence.text)}</p>'
        for i, sentence in enumerate(verdict(data))
    )
    return f'<header><h1>{escape(data.name)}</h1>{said}{_progress(data)}<dl class="facts">{shown}</dl></header>'


def _progress(data: ReportData) -> str:
    """Shows what is there and what comes next, for a run that is not complete."""
    sign = {"done": "✓", "begun": "…", "open": "○"}
    steps = "".join(
        f'<li class="{step.state}"><b>{sign[step.state]} {escape(step.verb)}</b> <span>{escape(step.text)}</span></li>'
        for step in data.steps
    )
    steps = f'<ol class="steps">{steps}</ol>' if steps else ""
    return steps + (f'<p class="next">{_prose(data.next_step)}</p>' if data.next_step else "")


def _scores(data: ReportData) -> str:
    if not data.scored():
        return ""
    note = (
        f"Top-1 accuracy on {data.dataset} is the share of images whose class is named correctly. A method classifies "
        "by prompts, as CLIP does, unless it says otherwise below its name."
    )
    if set(data.tasks) & set(data.num_images):
        smallest = min(set(data.tasks) & set(data.num_images), key=lambda task: (data.num_images[task], task))
        worth = 100 / max(1, data.num_images[smallest])
        note += f" In {smallest}, one image is worth {worth:.1f} points, so read the mean before any single task."
    if data.gains:
        note += f" Brackets are the {method(data.num_seeds)}; one of twenty without an effect excludes zero."
        if len(data.customized()) > 1:
            tried = len(data.customized())
            note += f" The best of {tried} methods is chosen by these same images, which flatters it a little."
    return f'<h2>Methods and baselines</h2><p class="note">{escape(note)}</p>{html_table(data)}{html_tasks(data)}'


def _advice(data: ReportData) -> str:
    items = "".join(f"<li>{_prose(line)}</li>" for line in data.advice)
    return f'<h2>What to try next</h2><ul class="advice">{items}</ul>' if items else ""


def _gallery(data: ReportData, budget: int) -> str:
    if not data.gallery:
        return ""
    shown, below = sections(data.gallery, budget)
    return (
        '<h2>What was retrieved</h2><p class="note">These pairs were retrieved for each class, best first. The word '
        "below a picture is the side of the pair that was searched, image or text; the number is its cosine similarity "
        f"to the class's query. {_prose(data.gallery_hint)}</p>"
        f'<div class="gallery">{shown}</div><div class="note">{below}</div>'
    )


def _curves(data: ReportData) -> str:
    charts = ""
    for key, title, unit in CURVES:
        lines = {
            data.index(arm): [(row["step"], row[key]) for row in rows if {"step", key} <= set(row)]
            for arm, rows in data.curves.items()
        }
        charts += line_chart(title, unit, {i: line for i, line in lines.items() if line})
    if not charts:
        return ""
    trained = [arm for arm, rows in data.curves.items() if rows]
    return f'<h2>Training</h2>{legend(data, trained)}<div class="columns">{charts}</div>'


def _stages(data: ReportData) -> str:
    if not data.stages:
        return ""
    columns: tuple[tuple[str, Callable[..., str]], ...] = (
        ("parts", lambda s, parts, rows, ok, written, seconds: f"{parts:,}"),
        ("rows", lambda s, parts, rows, ok, written, seconds: f"{rows:,}"),
        ("ok", lambda s, parts, rows, ok, written, seconds: f"{100 * ok / rows:.2f} %" if rows else "–"),
        ("written", lambda s, parts, rows, ok, written, seconds: size(written)),
        ("time", lambda s, parts, rows, ok, written, seconds: duration(seconds)),
        (
            "rows/s",
            lambda s, parts, rows, ok, written, seconds: f"{rows / seconds:,.0f}" if seconds > 0 and rows else "–",
        ),
    )
    head = "".join(f'<th scope="col" class="n">{name}</th>' for name, _ in columns)
    body = "".join(
        f'<tr><th scope="row">{escape(row[0])}</th>'
        + "".join(f'<td class="n">{column(name)}{cell(*row)}</td>' for name, cell in columns)
        + "</tr>"
        for row in data.stages
    )
    total = duration(sum(row[5] for row in data.stages))
    return (
        f'<h2>Stages</h2><p class="note">All stages together took {total}.</p><div class="scroll" tabindex="0">'
        f'<table class="cells two"><thead><tr><th scope="col">stage</th>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def _notes(data: ReportData) -> str:
    notes = "".join(f"<li>{escape(note)}</li>" for note in data.notes)
    return f"<h2>Notes</h2><ul>{notes}</ul>" if notes else ""


def _recipe(data: ReportData) -> str:
    if not data.recipe_yaml:
        return ""
    summary = "the complete recipe, which repeats this run"
    return f"<h2>Recipe</h2><details><summary>{summary}</summary><pre>{escape(data.recipe_yaml)}</pre></details>"


def _prose(text: str) -> str:
    """Escapes sentences, and sets what stands between backticks as code."""
    return CODE.sub(r"<code>\1</code>", escape(text))


def _seeds(data: ReportData) -> list[int]:
    return [data.seed, *(seed.seed for seed in data.other_seeds)]
