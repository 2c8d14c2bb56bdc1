"""Renders the gallery of a retrieval: one HTML file with every class, the weakest first, its scores and best pairs.

The file needs no network and no other file. Its script only filters and sorts: without it, the page shows all classes.
Everything in it comes from the web or from a recipe, so texts are escaped, only pictures of five formats are shown, and
a content security policy lets no other script run.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from html import escape
from urllib.parse import urlsplit

from react_ray.metadata import shortened
from react_ray.report.class_gallery_style import GALLERY_CSS, SCRIPT
from react_ray.report.name import name
from react_ray.report.pictures import data_uri, within
from react_ray.report.script import policy
from react_ray.report.style import CSS

MAX_FILE_BYTES = 24_000_000  # of the page; beyond it, every class loses its last pairs first
CODE = re.compile(r"`([^`]+)`")
MOST_CREDITS = 200
FEW_FLAGGED = 12  # flagged classes that are named above the list
FLAGS = {"unnamed": "captions do not name it", "weak": "like a random query"}


@dataclass(frozen=True)
class Pair:
    """One retrieved pair, as the page shows it."""

    pair_id: int
    caption: str
    url: str
    score: float | None
    key: str  # the side of the pair that was searched: "image" or "text"; "" if it was drawn at random
    prompt: str  # the query that found it
    picture: bytes | None  # a thumbnail
    status: str  # of the image
    credit: str = ""
    others: tuple[str, ...] = ()  # further classes that found the pair


@dataclass(frozen=True)
class ClassEntry:
    task: str
    class_name: str
    prompts: list[str]
    num_pairs: int
    score_min: float | None
    score_mean: float | None
    score_max: float | None
    best: list[Pair]
    last: list[Pair] = field(default_factory=list)
    flags: list[str] = field(default_factory=list)
    advice: list[str] = field(default_factory=list)
    measures: list[tuple[str, str]] = field(default_factory=list)  # how well the pairs match: (name, value)
    z: float | None = None
    dropped: bool = False  # its pairs were left out by retrieve.min_match

    @property
    def weakness(self) -> tuple[bool, float, int, float]:
        """Sorts the weakest class first: those that are flagged, then by match, number of pairs and score."""
        return (
            not self.flags,
            float("inf") if self.z is None else self.z,
            self.num_pairs,
            self.score_mean or 0.0,
        )


@dataclass(frozen=True)
class Gallery:
    name: str
    facts: list[tuple[str, str]]
    classes: list[ClassEntry]
    notes: list[str] = field(default_factory=list)  # the lines of `retrieve`
    warnings: list[str] = field(default_factory=list)  # what is not there yet


def render(gallery: Gallery, max_bytes: int = MAX_FILE_BYTES) -> str:
    classes = sorted(gallery.classes, key=lambda one: (one.weakness, one.task, one.class_name))
    head = _head(gallery, classes) + _tools(classes)
    # 30,000 bytes are for the frame and the credits.
    shown, below = sections(classes, max_bytes - len((CSS + GALLERY_CSS + SCRIPT + head).encode()) - 30_000)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy(SCRIPT)}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(gallery.name)} – retrieved pairs</title><style>{CSS}{GALLERY_CSS}</style></head>"
        f'<body><main class="gallery">{head}<div id="classes">{shown}</div>'
        f'<p id="none" class="note" hidden>No class matches.</p><footer>{below}'
        "<p>Written by react_ray. This file is complete: it loads nothing else.</p></footer>"
        f"</main><script>{SCRIPT}</script></body></html>\n"
    )


def sections(classes: list[ClassEntry], max_bytes: int) -> tuple[str, str]:
    """Returns the classes as HTML of at most `max_bytes`, and what is said below them: what is left out, and whose the
    pictures are. If there is more, every class loses its last pairs first."""
    empty = "".join(_section(i, one, [], []) for i, one in enumerate(classes))
    figures = [[_figure(pair) for pair in [*one.best, *one.last]] for one in classes]
    kept = within(figures, max_bytes - len(empty.encode()) - 120 * len(classes))  # for what stands around figures
    html, num_left_out = "", 0
    for i, one in enumerate(classes):
        shown = figures[i][: kept[i]]
        num_left_out += len(figures[i]) - kept[i]
        html += _section(i, one, shown[: len(one.best)], shown[len(one.best) :])
    left_out = f"<p>{num_left_out:,} pairs are left out to keep this file small.</p>" if num_left_out else ""
    return html, left_out + _credits(classes, kept)


def _head(gallery: Gallery, classes: list[ClassEntry]) -> str:
    facts = "".join(f"<div><dt>{escape(what)}</dt><dd>{escape(value)}</dd></div>" for what, value in gallery.facts)
    warnings = "".join(f'<p class="warning">{_with_code(line)}</p>' for line in gallery.warnings)
    notes = "".join(f"<li>{escape(note)}</li>" for note in gallery.notes)
    if notes:
        notes = f'<details class="notes"><summary>what retrieve printed</summary><ul>{notes}</ul></details>'
    return (
        f'<header><h1>{escape(gallery.name)}</h1><dl class="facts">{facts}</dl>{warnings}{_flagged(classes)}{notes}'
        "</header>"
    )


def _with_code(line: str) -> str:
    """Commands stand between backquotes in the lines of a terminal."""
    return CODE.sub(r"<code>\1</code>", escape(line))


def _flagged(classes: list[ClassEntry]) -> str:
    """Names the first of the classes that do not match, each with a link to its pairs."""
    flagged = [(i, one) for i, one in enumerate(classes) if one.flags]
    if not flagged:
        return ""
    names = ", ".join(f'<a href="#c{i}">{name(one.class_name)}</a>' for i, one in flagged[:FEW_FLAGGED])
    more = f" and {len(flagged) - FEW_FLAGGED:,} more" if len(flagged) > FEW_FLAGGED else ""
    do = "does" if len(flagged) == 1 else "do"
    return (
        f'<p class="lead"><b class="down">{len(flagged):,}</b> of {len(classes):,} classes {do} not look like what was '
        f"asked for: {names}{more}.</p>"
    )


def _tools(classes: list[ClassEntry]) -> str:
    """The filter and the order, which the script shows: they do nothing without it."""
    tasks = list(dict.fromkeys(sorted(one.task for one in classes)))
    options = "".join(f"<option>{escape(task)}</option>" for task in tasks)
    choose = (
        f'<select id="task" aria-label="task"><option value="">all tasks</option>{options}</select>'
        if len(tasks) > 1
        else ""
    )
    only = (
        '<label><input type="checkbox" id="flagged"> flagged only</label>' if any(one.flags for one in classes) else ""
    )
    orders = "".join(
        f'<option value="{value}">{text}</option>'
        for value, text in (
            ("weakest", "weakest first"),
            ("name", "by name"),
            ("most", "most pairs first"),
            ("best", "best score first"),
        )
    )
    return (
        '<div class="tools" id="tools" hidden>'
        '<input type="search" id="filter" placeholder="class, caption or query" aria-label="filter" autocomplete="off">'
        f'{choose}<select id="order" aria-label="order">{orders}</select>{only}'
        '<span id="count" role="status"></span></div>'
    )


def _section(index: int, one: ClassEntry, best: list[str], last: list[str]) -> str:
    """One class. The attributes are what the script filters and sorts by."""
    task = f"<small>{name(one.task)}</small>" if one.task else ""
    flags = "".join(
        f'<span class="flag">{escape(FLAGS.get(flag, flag.replace("_", " ")))}</span>' for flag in one.flags
    )
    advice = "".join(f"<li>{_with_code(line)}</li>" for line in one.advice)
    facts = [f"<b>{one.num_pairs:,}</b> {'pair' if one.num_pairs == 1 else 'pairs'}"]
    facts += [escape(f"{what} {value}") for what, value in [*_scores(one), *one.measures]]
    body = f'<div class="pairs">{"".join(best)}</div>' if best else ""
    if last:
        body += f'<p class="between">its last pairs</p><div class="pairs">{"".join(last)}</div>'
    if not one.num_pairs:
        why = "Its pairs were left out by retrieve.min_match." if one.dropped else "No pair was retrieved for it."
        body = f'<p class="mute">{why}</p>'
    return (
        f'<section class="entry" id="c{index}" data-task="{escape(one.task)}" data-name="{escape(one.class_name)}" '
        f'data-pairs="{one.num_pairs}" data-score="{one.score_max or 0:.4f}" data-flags="{len(one.flags)}">'
        f'<div class="about"><h2>{name(one.class_name)}{task}</h2>{flags}'
        f'<p class="measures">{"".join(f"<span>{fact}</span>" for fact in facts)}</p>{_prompts(one)}'
        + (f'<ul class="advice">{advice}</ul>' if advice else "")
        + f"</div><div>{body}</div></section>"
    )


def _scores(one: ClassEntry) -> list[tuple[str, str]]:
    if one.score_min is None or one.score_max is None or one.score_min == one.score_max:
        return [] if one.score_max is None else [("score", f"{one.score_max:.3f}")]
    return [("score", f"{one.score_max:.3f} to {one.score_min:.3f}, mean {one.score_mean:.3f}")]


def _prompts(one: ClassEntry) -> str:
    if one.prompts in ([], [one.class_name]):
        return ""
    more = f" and {len(one.prompts) - 1:,} more" if len(one.prompts) > 1 else ""
    return f'<p class="prompt">asked: “{escape(one.prompts[0])}”{more}</p>'


def _figure(pair: Pair) -> str:
    source = data_uri(pair.picture)
    caption = escape(pair.caption) or '<span class="mute">no caption</span>'
    if source:
        picture = f'<img src="{source}" alt="{escape(pair.caption)}" loading="lazy" decoding="async">'
    else:
        picture = f'<div class="missing">{escape(pair.status)}</div>'
    score = "" if pair.score is None else f"{pair.score:.3f}"
    found = f'<span class="found">{escape(f"{pair.key} {score}".strip())}{_source(pair.url)}</span>'
    others = f'<span class="others">also: {escape(", ".join(pair.others))}</span>' if pair.others else ""
    lines = [pair.caption, f"query: {pair.prompt}" if pair.prompt else "", f"pair_id {pair.pair_id}", pair.credit]
    title = escape("\n".join(line for line in lines if line))
    return (
        f'<figure title="{title}">{picture}<figcaption>{found}<span class="text">{caption}</span>{others}</figcaption>'
        "</figure>"
    )


def _source(url: str) -> str:
    """A link to where the image came from; the reader decides whether to follow it."""
    try:
        host = urlsplit(url).hostname if url.startswith(("http://", "https://")) else None
    except ValueError:
        host = None
    if not host:
        return ""
    return f' <a href="{escape(url)}" rel="noopener noreferrer" title="{escape(host)}">source</a>'


def _credits(classes: list[ClassEntry], kept: list[int]) -> str:
    """Names the authors; where they are many, the title of each picture has its own."""
    shown = (pair for i, one in enumerate(classes) for pair in [*one.best, *one.last][: kept[i]])
    credits = sorted({shortened(pair.credit) for pair in shown if pair.credit})
    if not credits:
        return ""
    more = f"; and {len(credits) - MOST_CREDITS:,} more, each in its picture's title" * (len(credits) > MOST_CREDITS)
    return f"<p>Pictures by: {escape('; '.join(credits[:MOST_CREDITS]))}{more}.</p>"
