"""Renders ReportData as one HTML file that needs no network, no script and no other file.

The page leads from the result to its reasons: the headline, the table of tasks x arms, the classes gained and lost, the
retrieved pairs, the training curves, the cost of each stage, and the recipe that repeats the run.
"""

from __future__ import annotations

from collections.abc import Callable
from html import escape

from react_ray.report.charts import dot_plot, gain_bars, legend, line_chart
from react_ray.report.data import MEAN, ClassChange, ReportData
from react_ray.report.gallery import gallery
from react_ray.report.style import CSS, mark, marks
from react_ray.report.table import gain_points, html_table, points

MAX_FILE_BYTES = 3_900_000
MAX_NAMES = 24  # gained or lost classes named per task

CURVES = (
    ("loss", "Training loss", "nats"),
    ("lr", "Learning rate", "with warm-up and decay"),
    ("logit_scale", "Logit scale", "inverse temperature"),
    ("gate_attn_abs_mean", "Attention gates", "mean |tanh α| over the gated blocks"),
    ("gate_dense_abs_mean", "Dense gates", "mean |tanh α| over the gated blocks"),
)


def render(data: ReportData) -> str:
    before = _head(data) + _scores(data) + _changes(data)
    after = _curves(data) + _stages(data) + _notes(data) + _recipe(data)
    budget = MAX_FILE_BYTES - len((CSS + before + after).encode()) - 20_000  # for the frame and the names of classes
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(data.name)} – react_ray report</title><style>{CSS}</style></head>"
        f"<body>{marks()}<main>{before}{_gallery(data, budget)}{after}"
        "<footer>Written by react_ray. This file is complete: it loads nothing else.</footer></main></body></html>\n"
    )


def _head(data: ReportData) -> str:
    facts = [("seeds" if data.other_seeds else "seed", ", ".join(str(s) for s in _seeds(data))), *data.facts]
    shown = "".join(f"<div><dt>{escape(what)}</dt><dd>{escape(str(value))}</dd></div>" for what, value in facts)
    tiles = "".join(_tile(data, i, arm, label) for i, (arm, label) in enumerate(data.arms.items()))
    return (
        f'<header><h1>{escape(data.name)}</h1><dl class="facts">{shown}</dl>{_headline(data)}'
        f'<div class="tiles">{tiles}</div></header>'
    )


def _headline(data: ReportData) -> str:
    """States the result in one sentence: the compared arm against every other arm, by the paired difference."""
    compared = data.spread(MEAN, data.compared_arm)
    gains = [
        f'<b class="{"up" if gain.mean > 0 else "down"}">{gain_points(gain.mean)}</b> against {escape(label)}'
        for arm, label in data.arms.items()
        if arm != data.compared_arm
        and data.base_of(arm) == data.base_of(data.compared_arm)
        and (gain := data.gain(MEAN, data.compared_arm, arm))
    ]
    if compared is None or not gains:
        return ""
    seeds = "one seed" if data.num_seeds == 1 else f"{data.num_seeds} seeds"
    tasks = "one task" if len(data.tasks) == 1 else f"{len(data.tasks)} tasks"
    label = data.arms[data.compared_arm]
    gains[0] = gains[0].replace("</b>", "</b> points", 1)
    return (
        f'<p class="lead">{escape(label[:1].upper() + label[1:])} classifies <b>{points(compared.mean)} %</b> of the '
        f"images correctly (mean over {tasks}, {seeds}): {', '.join(gains)}.</p>"
    )


def _tile(data: ReportData, index: int, arm: str, label: str) -> str:
    spread = data.spread(MEAN, arm)
    value, std, under = "–", "", "not measured"
    if spread:
        value = points(spread.mean)
        std = f" <small>± {points(spread.std)}</small>" if spread.num_seeds > 1 else ""
        gain = data.gain_over_base(MEAN, arm)
        begins = "the start of all arms" if len(set(data.bases.values())) < 2 else "the start of its arms"
        under = f"{gain_points(gain.mean)} against {escape(data.arms[data.base_of(arm)])}" if gain else begins
    main = f" main a{index % 7}" if arm == data.compared_arm else ""
    return (
        f'<div class="tile{main}"><div class="label">{mark(index)}{escape(label)}</div>'
        f'<div class="value">{value}{std}</div><div class="under">{under}</div></div>'
    )


def _scores(data: ReportData) -> str:
    note = "Zero-shot top-1 accuracy is the share of images for which the text of the correct class is the nearest one."
    if set(data.tasks) & set(data.num_images):
        smallest = min(set(data.tasks) & set(data.num_images), key=lambda task: (data.num_images[task], task))
        worth = 100 / max(1, data.num_images[smallest])
        note += f" In {smallest}, one image is worth {worth:.1f} points, so read the mean before any single task."
    if data.reference_lines:
        note += f" For comparison, a reference that is not an arm of this run: {', '.join(data.reference_lines)}."
    plot = f'<div class="card" style="margin-top:14px">{dot_plot(data)}</div>'
    return f'<h2>Tasks and arms</h2><p class="note">{escape(note)}</p>{html_table(data)}{plot}'


def _changes(data: ReportData) -> str:
    if not data.per_class:
        return ""
    changes = [ClassChange(*change) for change in data.per_class]
    gained = sorted((c for c in changes if c.arm_correct > c.base_correct), key=_size)
    lost = sorted((c for c in changes if c.arm_correct < c.base_correct), key=_size)

    def images(of: list[ClassChange], task: str) -> int:
        return sum(abs(c.arm_correct - c.base_correct) for c in of if c.task == task)

    tasks = list(dict.fromkeys(c.task for c in changes))
    bars = gain_bars([(task, images(gained, task), images(lost, task)) for task in tasks])
    base, arm = (escape(data.arms[one]) for one in (data.base_of(data.compared_arm), data.compared_arm))
    same = len(changes) - len(gained) - len(lost)
    return (
        f'<h2>Classes gained and lost</h2><p class="note">{arm} against {base}, seed {data.seed}: accuracy rises in '
        f"{len(gained)} classes, falls in {len(lost)} and stays the same in {same}. The bars count images.</p>"
        f'<div class="columns changes"><div class="card">{bars}</div>'
        f'<div class="card names"><h3 class="up">Gained</h3>{_names(gained, tasks)}</div>'
        f'<div class="card names"><h3 class="down">Lost</h3>{_names(lost, tasks)}</div></div>'
    )


def _size(change: ClassChange) -> tuple[int, str]:
    return -abs(change.arm_correct - change.base_correct), change.class_name


def _names(changes: list[ClassChange], tasks: list[str]) -> str:
    """Lists the classes of each task, largest change first, as running text, since there may be hundreds."""

    def name(c: ClassChange) -> str:
        count = (
            f' <span class="mute">{c.base_correct}→{c.arm_correct} of {c.num_images}</span>' if c.num_images > 1 else ""
        )
        return f"{escape(c.class_name)}{count}"

    html = ""
    for task in tasks:
        names = [name(c) for c in changes if c.task == task]
        rest = f' <span class="mute">and {len(names) - MAX_NAMES} more</span>' if len(names) > MAX_NAMES else ""
        if names:
            html += f"<p><b>{escape(task)}</b> {', '.join(names[:MAX_NAMES])}{rest}</p>"
    return html or '<p class="mute">none</p>'


def _gallery(data: ReportData, budget: int) -> str:
    if not data.gallery:
        return ""
    return (
        '<h2>What was retrieved</h2><p class="note">These pairs were retrieved for each class, best first. The word '
        "below a picture is the side of the pair that was searched, image or text; the number is its cosine similarity "
        "to the class's query.</p>"
        f"{gallery(data, budget)}"
    )


def _curves(data: ReportData) -> str:
    index = {arm: i for i, arm in enumerate(data.arms)}
    charts = ""
    for key, title, unit in CURVES:
        lines = {
            index[arm]: [(row["step"], row[key]) for row in rows if {"step", key} <= set(row)]
            for arm, rows in data.curves.items()
        }
        charts += line_chart(title, unit, {i: line for i, line in lines.items() if line})
    if not charts:
        return ""
    return f'<h2>Training</h2>{legend(data, list(data.curves))}<div class="columns">{charts}</div>'


def _stages(data: ReportData) -> str:
    if not data.stages:
        return ""
    columns: tuple[tuple[str, Callable[..., str]], ...] = (
        ("parts", lambda s, parts, rows, ok, size, seconds: f"{parts:,}"),
        ("rows", lambda s, parts, rows, ok, size, seconds: f"{rows:,}"),
        ("ok", lambda s, parts, rows, ok, size, seconds: f"{100 * ok / rows:.2f} %" if rows else "–"),
        ("written", lambda s, parts, rows, ok, size, seconds: _bytes(size)),
        ("time", lambda s, parts, rows, ok, size, seconds: _seconds(seconds)),
        ("rows/s", lambda s, parts, rows, ok, size, seconds: f"{rows / seconds:,.0f}" if seconds > 0 and rows else "–"),
    )
    head = "".join(f'<th scope="col" class="n">{name}</th>' for name, _ in columns)
    body = "".join(
        f'<tr><th scope="row">{escape(row[0])}</th>'
        + "".join(f'<td class="n">{cell(*row)}</td>' for _, cell in columns)
        + "</tr>"
        for row in data.stages
    )
    total = _seconds(sum(row[5] for row in data.stages))
    return (
        f'<h2>Stages</h2><p class="note">All stages together took {total}.</p><div class="scroll" tabindex="0"><table>'
        f'<thead><tr><th scope="col">stage</th>{head}</tr></thead><tbody>{body}</tbody></table></div>'
    )


def _notes(data: ReportData) -> str:
    notes = "".join(f"<li>{escape(note)}</li>" for note in data.notes)
    return f"<h2>Notes</h2><ul>{notes}</ul>" if notes else ""


def _recipe(data: ReportData) -> str:
    if not data.recipe_yaml:
        return ""
    summary = "the complete recipe, which repeats this run"
    return f"<h2>Recipe</h2><details><summary>{summary}</summary><pre>{escape(data.recipe_yaml)}</pre></details>"


def _seeds(data: ReportData) -> list[int]:
    return [data.seed, *(seed.seed for seed in data.other_seeds)]


def _bytes(size: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" or size >= 100 else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:,.1f} TB"


def _seconds(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"
