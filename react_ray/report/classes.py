"""Shows classes and images: a searchable table of all classes, images that flipped either way, and confusions."""

from __future__ import annotations

from html import escape

from react_ray.metadata import shortened
from react_ray.report.charts import flip_bars
from react_ray.report.class_gallery import FLAGS
from react_ray.report.data import ClassRow, Confusion, Flip, ReportData
from react_ray.report.name import name
from react_ray.report.pictures import data_uri
from react_ray.report.style import mark

MAX_ROWS = 20_000  # classes in the table, each about 110 bytes
MAX_ADVISED = 500  # flagged classes whose advice is shown; the gallery has that of all
MAX_TRAPS = 12


def class_table(data: ReportData) -> str:
    """Returns all classes; those that do not match come first, then those that lost most."""
    if not data.classes:
        return ""
    scored, retrieved = any(c.num_images for c in data.classes), any(c.pairs is not None for c in data.classes)
    rows = sorted((ClassRow(*row) for row in data.classes), key=lambda c: _weakest(c, scored))
    head = '<th scope="col">class</th>'
    head += '<th scope="col" class="n">pairs</th>' if retrieved else ""
    best = data.best_arm
    if scored and best:
        base = data.base_of(best)
        head += '<th scope="col" class="n">images</th>'
        head += "".join(
            f'<th scope="col" class="n">{mark(data.index(arm))}{escape(data.labels[arm])}</th>' for arm in (base, best)
        )
        head += '<th scope="col" class="n">change</th>'
    shown = enumerate(rows[:MAX_ROWS])
    body = "".join(_class_row(c, retrieved, bool(scored and best), i < MAX_ADVISED) for i, c in shown)
    left_out = f" {len(rows) - MAX_ROWS:,} more classes are left out." if len(rows) > MAX_ROWS else ""
    flagged = sum(bool(c.flags) for c in rows)
    notes = [f"{flagged} classes whose pairs do not look like the class come first."] if flagged else []
    if retrieved:
        notes.append("Pairs are those retrieved for a class.")
    if scored:
        notes.append("The other columns count labelled images that are classified correctly.")
    return (
        f'<h2>All {len(rows):,} classes</h2><p class="note">{" ".join(notes)}{left_out} Choose the head of a column to '
        'sort by it.</p><p class="filter" hidden><label>Find a class <input type="search" data-filter="classes" '
        'placeholder="heron, flags, …"></label> <output></output></p>'
        f'<div class="scroll tall{"" if scored else " narrow"}" tabindex="0">'
        f'<table id="classes" class="sortable"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
    )


def _weakest(row: ClassRow, scored: bool) -> tuple[bool, int, int, str]:
    change = row.arm_correct - row.base_correct if scored else 0
    return not row.flags, change, row.pairs if row.pairs is not None else 1 << 60, row.class_name


def _class_row(row: ClassRow, retrieved: bool, scored: bool, with_advice: bool) -> str:
    head = f"{name(row.class_name)}<small>{name(row.task)}</small>"
    if row.flags:
        head += f'<small class="flag">⚑ {escape(", ".join(FLAGS.get(flag, flag) for flag in row.flags))}</small>'
        if with_advice:
            head += f"<details><summary>what to try</summary><small>{escape(' '.join(row.advice))}</small></details>"
    cells = ""
    if retrieved:
        cells += f"<td>{row.pairs:,}</td>" if row.pairs is not None else '<td data-v="-1">–</td>'
    if scored:
        change = row.arm_correct - row.base_correct
        cells += f"<td>{row.num_images}</td><td>{row.base_correct}</td><td>{row.arm_correct}</td>"
        cells += f'<td data-v="{change}">{"+" if change > 0 else "−" if change < 0 else ""}{abs(change)}</td>'
    return f'<tr><th scope="row">{head}</th>{cells}</tr>'


def flips(data: ReportData, max_bytes: int) -> str:
    """Returns the counts of flipped images, and examples with at most `max_bytes` of pictures."""
    best = data.best_arm
    if not data.flipped or best is None:
        return ""
    base = data.base_of(best)
    both = [(data.index(arm), escape(data.labels[arm])) for arm in (best, base)]
    gained, lost = (sum(counts[i] for counts in data.flipped.values()) for i in (0, 1))
    bars = flip_bars(data.flipped, both[0][0], both[1][0])
    kept, left = [], max_bytes
    for flip in (Flip(*flip) for flip in data.flips):
        left -= len(flip.image) * 4 // 3 + 400
        if left > 0:
            kept.append(flip)
    sides = ""
    for (index, label), is_gain in zip(both, (True, False), strict=True):
        shown = "".join(_flip(flip, is_gain) for flip in kept if flip.gained is is_gain)
        empty = '<p class="mute">no pictures</p>'
        sides += f'<div class="card"><h3>{mark(index)} only {label} is right</h3>'
        sides += f'<div class="flips">{shown or empty}</div></div>'
    label = both[0][1][:1].upper() + both[0][1][1:]
    return (
        f'<h2>Images that flipped</h2><p class="note">{label} classifies {gained} images of '
        f"{escape(data.dataset)} correctly that {both[1][1]} does not, and {lost} the other way round (seed "
        f'{data.seed}).</p><div class="columns changes"><div class="card"><h3>{mark(both[1][0])} only {both[1][1]} · '
        f"{mark(both[0][0])} only {both[0][1]}</h3>{bars}</div>{sides}</div>"
    )


def _flip(flip: Flip, is_gain: bool) -> str:
    source = data_uri(flip.image)
    if not source:
        return ""
    said = name(flip.base_said if is_gain else flip.arm_said)
    label = name(flip.label)
    return (
        f'<figure><img src="{source}" alt="{escape(shortened(flip.label))}" loading="lazy"><figcaption>'
        f'<b>{label}</b><span class="mute">{name(flip.task)}</span><span>taken for {said}</span></figcaption></figure>'
    )


def confusions(data: ReportData) -> str:
    """Returns the pairs of classes that are confused most, and the classes that are named wrongly most often."""
    best = data.best_arm
    if not data.confusions or best is None:
        return ""
    found = [Confusion(*one) for one in data.confusions]
    pairs = [c for c in found if c.label and c.arm_count > 1]
    traps = [c for c in found if not c.label]
    base = data.base_of(best)
    head = "".join(
        f'<th scope="col" class="n">{mark(data.index(a))}{escape(data.labels[a])}</th>' for a in (best, base)
    )
    cards = ""
    for title, rows in (("image of → taken for", pairs), ("wrongly named most often", traps)):
        body = "".join(
            f'<tr><th scope="row">{f"{name(c.label)} → " if c.label else ""}{name(c.predicted)}<small>'
            f'{name(c.task)}</small></th><td class="n">{c.arm_count}</td><td class="n">{c.base_count}</td></tr>'
            for c in rows[:MAX_TRAPS]
        )
        if body:
            cards += f'<div class="scroll"><table><thead><tr><th scope="col">{title}</th>{head}</tr></thead>'
            cards += f"<tbody>{body}</tbody></table></div>"
    return (
        f'<h2>Confusions</h2><p class="note">Images of {escape(data.dataset)} that are classified wrongly, most '
        f'frequent mistakes of {escape(data.labels[best])} first.</p><div class="columns few">{cards}</div>'
        if cards
        else ""
    )
