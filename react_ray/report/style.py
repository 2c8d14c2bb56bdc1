"""Defines the page's look: one style sheet for light and dark, wide and narrow, and the marks of the arms.

The seven colours can be told apart with any colour vision, on both backgrounds; marks and dashes repeat the distinction
without colour.
"""

from __future__ import annotations

MARKS = (
    '<circle cx="8" cy="8" r="4.5" class="hollow"/>',
    '<path d="M8 2.6 13.4 8 8 13.4 2.6 8Z"/>',
    '<rect x="3.6" y="3.6" width="8.8" height="8.8" rx="1"/>',
    '<circle cx="8" cy="8" r="5.4"/>',
    '<path d="M8 2.4 13.8 12.8H2.2Z"/>',
    '<path d="M8 13.6 13.8 3.2H2.2Z"/>',
    '<path d="M6.3 2.5h3.4v3.8h3.8v3.4H9.7v3.8H6.3V9.7H2.5V6.3h3.8Z"/>',
)


def marks() -> str:
    """Returns the symbols that all charts use; the page includes them once."""
    symbols = "".join(f'<symbol id="m{i}" viewBox="0 0 16 16">{shape}</symbol>' for i, shape in enumerate(MARKS))
    return f'<svg width="0" height="0" class="defs" aria-hidden="true">{symbols}</svg>'


def mark(index: int) -> str:
    """Returns the mark of an arm, in its colour."""
    return f'<svg class="mark {colour(index)}" aria-hidden="true"><use href="#m{index % len(MARKS)}"/></svg>'


def colour(index: int) -> str:
    """Returns the CSS class of an arm's colour."""
    return f"a{index % len(MARKS)}"


CSS = """
:root { color-scheme: light dark; --page: #fbfbfa; --card: #ffffff; --ink: #1c2024; --mute: #667079; --rule: #e3e5e8;
  --grid: #eceef0; --up: #00795a; --down: #b3400c; --track: #f3f4f5;
  --c0: #6d7680; --c1: #d55e00; --c2: #0072b2; --c3: #00936b; --c4: #b0579a; --c5: #b58400; --c6: #2f9fd8; }
@media (prefers-color-scheme: dark) { :root { --page: #131619; --card: #1b1f23; --ink: #e8eaed; --mute: #98a2ac;
  --rule: #30363c; --grid: #2a2f35; --up: #43d3a6; --down: #ff9663; --track: #22272c;
  --c0: #a4adb7; --c1: #ff8b45; --c2: #5cb3f2; --c3: #35cf9d; --c4: #e290cb; --c5: #e8bd4a; --c6: #8fd0f5; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink);
  font: 15px/1.5 system-ui, "Segoe UI", Roboto, "Helvetica Neue",
  sans-serif; overflow-wrap: break-word; }
main { padding: 36px clamp(16px, 3.5vw, 72px) 64px; }
h1 { font-size: 30px; line-height: 1.2; margin: 0 0 6px; letter-spacing: -0.01em; }
h2 { font-size: 20px; margin: 52px 0 8px; letter-spacing: -0.005em; }
h3 { font-size: 15px; margin: 0 0 8px; } .scroll + h3 { margin-top: 22px; }
p { margin: 6px 0; max-width: 46em; }
.lead { font-size: 20px; line-height: 1.4; margin: 14px 0 8px; }
.verdict { border-left: 4px solid var(--rule); padding-left: 12px; max-width: 62em; }
.verdict.gain { border-color: var(--up); } .verdict.loss { border-color: var(--down); }
.verdict.same { border-color: var(--mute); }
.steps { display: flex; flex-wrap: wrap; gap: 8px; list-style: none; padding: 0; margin: 18px 0 10px; font-size: 14px; }
.steps li { background: var(--card); border: 1px solid var(--rule); border-radius: 8px; padding: 6px 12px; }
.steps span { color: var(--mute); } .steps .open { border-style: dashed; color: var(--mute); }
.next { font-size: 16px; max-width: 62em; } .advice li { margin: 4px 0; max-width: 62em; }
.mute, .note, .unit, span.same, b.same { color: var(--mute); }
.note { font-size: 14px; margin-bottom: 14px; max-width: 72em; }
span.gain, b.gain { color: var(--up); } span.loss, b.loss, b.down, .flag { color: var(--down); }
.facts { display: flex; flex-wrap: wrap; gap: 2px 22px; padding: 0; margin: 18px 0 0; font-size: 14px; }
.facts div { display: flex; gap: 7px; } .facts dt { color: var(--mute); } .facts dd { margin: 0; font-weight: 600;
  overflow-wrap: anywhere; }
.card { background: var(--card); border: 1px solid var(--rule); border-radius: 10px; padding: 16px 18px; }
.columns { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 330px), 1fr)); gap: 14px; }
.mark { width: 14px; height: 14px; flex: none; vertical-align: -2px; } th .mark { margin-right: 6px; }
.a0 { color: var(--c0); } .a1 { color: var(--c1); } .a2 { color: var(--c2); } .a3 { color: var(--c3); }
.a4 { color: var(--c4); } .a5 { color: var(--c5); } .a6 { color: var(--c6); }
symbol { overflow: visible; } symbol * { fill: currentColor; stroke: none; }
symbol .hollow { fill: var(--card); stroke: currentColor; stroke-width: 2.2; }
.defs { position: absolute; }
.legend { display: flex; flex-wrap: wrap; gap: 4px 20px; list-style: none; padding: 0; margin: 0 0 14px;
  font-size: 13.5px; }
.legend li { display: flex; align-items: center; gap: 7px; }
.scroll { overflow-x: auto; border: 1px solid var(--rule); border-radius: 10px; background: var(--card); }
.scroll + .scroll, .columns + .scroll { margin-top: 14px; }
.long { overflow-wrap: anywhere; }
th .long { display: inline-block; max-width: min(28em, 60vw); white-space: normal; }
table { border-collapse: collapse; width: 100%; font-size: 14px; font-variant-numeric: tabular-nums; }
caption { text-align: left; color: var(--mute); font-size: 13px; padding: 12px 14px 6px; }
th, td { padding: 6px 14px; text-align: left; border-top: 1px solid var(--grid); white-space: nowrap;
  vertical-align: top; }
thead th { border-top: 0; font-weight: 600; font-size: 13px; vertical-align: bottom; }
tbody th { font-weight: 500; position: sticky; left: 0; background: var(--card); }
td small { display: block; font-size: 12px; line-height: 1.2; } .n { text-align: right; } .ref { color: var(--mute); }
.of { display: none; }
.dots .row { display: grid; grid-template-columns: 92px 1fr; align-items: center; gap: 12px; min-height: 30px; }
.dots .row > span { font-size: 13.5px; text-align: right; overflow: hidden; text-overflow: ellipsis;
  white-space: nowrap; }
/* A row's mean: its bar, a tick at the base, and the interval of their difference. */
td.bars { width: 40%; min-width: 180px; }
.track { position: relative; display: block; height: 18px; background: var(--track); border-radius: 3px; }
.track i { position: absolute; }
.fill { left: 0; top: 0; bottom: 0; border-radius: 3px; background: var(--c0); opacity: 0.45; }
.fill.gain { background: var(--up); opacity: 0.75; } .fill.loss { background: var(--down); opacity: 0.75; }
.whisker { top: 8px; height: 2px; background: var(--ink); }
.track .tick { top: -3px; bottom: -3px; width: 2px; margin-left: -1px; background: var(--ink); opacity: 0.55; }
.ref .fill { opacity: 0.3; } .ref th { font-weight: 400; }
.both { display: grid; grid-template-columns: 1fr 1fr; } .half { display: flex; align-items: center; gap: 6px;
  height: 22px; }
.half.left { justify-content: flex-end; border-right: 1px solid var(--mute); }
.bar { height: 14px; background: currentColor; display: block; } .half .bar { border-radius: 0 3px 3px 0; }
.half.left .bar { border-radius: 3px 0 0 3px; }
.half em { font-style: normal; font-size: 12.5px; color: var(--mute); }
.half.left { gap: 6px; } .bars .row { min-height: 26px; }
.changes, .few { align-items: start; } .few { grid-template-columns: repeat(auto-fill, minmax(min(100%, 420px), 1fr)); }
.few th { white-space: normal; } .few tbody th { overflow-wrap: anywhere; }
.flips { display: grid; grid-template-columns: repeat(auto-fill, minmax(96px, 1fr)); gap: 12px 10px; }
.flips figure { margin: 0; font-size: 12px; line-height: 1.3; overflow-wrap: anywhere; }
.flips img { width: 80px; height: 80px; object-fit: contain; display: block; background: #fff;
  border: 1px solid var(--rule); border-radius: 6px; margin-bottom: 4px; }
.flips figcaption > * { display: block; }
.filter input { font: inherit; color: inherit; background: var(--card); border: 1px solid var(--rule);
  border-radius: 8px;
  padding: 6px 10px; margin: 0 8px; width: min(320px, 100%); } .filter output { color: var(--mute); font-size: 14px; }
.narrow { max-width: 720px; }
.tall { max-height: 560px; overflow-y: auto; } .tall thead th { position: sticky; top: 0; background: var(--card);
  z-index: 1; box-shadow: 0 1px var(--rule); } .sortable thead th { cursor: pointer; }
.sortable td { text-align: right; } .sortable th small { font-weight: 400; color: var(--mute); white-space: normal; }
th small { display: block; font-size: 12px; line-height: 1.3; font-weight: 400; color: var(--mute); }
th details { margin: 0; } th summary { font-size: 12px; font-weight: 400; }
th small.flag { color: var(--down); } [aria-sort="ascending"]::after { content: " ▲"; }
[aria-sort="descending"]::after { content: " ▼"; }
.chart { margin: 0; background: var(--card); border: 1px solid var(--rule); border-radius: 10px;
  padding: 12px 12px 8px; }
.chart figcaption { font-weight: 600; font-size: 14px; margin: 0 4px 6px; } .chart figcaption span { font-weight: 400;
  color: var(--mute); }
.chart > svg { display: block; width: 100%; height: auto; } .chart text { fill: var(--mute); font-size: 11.5px; }
.chart .grid { stroke: var(--grid); } .chart .base { stroke: var(--mute); }
.line { fill: none; stroke: currentColor; stroke-width: 1.8; stroke-linejoin: round; }
.line.a1 { stroke-dasharray: 6 2.5; } .line.a2 { stroke-dasharray: 2.5 2; } .line.a4 { stroke-dasharray: 9 3 2 3; }
details { margin-top: 12px; } summary { cursor: pointer; color: var(--mute); font-size: 14px; }
summary:hover { color: var(--ink); }
code { font: 0.92em ui-monospace, "SF Mono", Menlo, Consolas, monospace; overflow-wrap: anywhere; }
pre { overflow-x: auto; background: var(--card); border: 1px solid var(--rule); border-radius: 10px;
  padding: 14px 16px;
  font: 13px/1.5 ui-monospace, "SF Mono", Menlo, Consolas, monospace; }
footer { margin-top: 56px; border-top: 1px solid var(--rule); padding-top: 12px; color: var(--mute);
  font-size: 13px; }
@media (max-width: 640px) { main { padding: 24px 14px 48px; } h1 { font-size: 25px; } .lead { font-size: 16px; }
  .dots .row { grid-template-columns: 68px 1fr; gap: 8px; }
  .card { padding: 14px 12px; }
  /* The cells of a row stand below its name, each with the name of its column. */
  .cells thead { display: none; } .cells tr { display: grid; gap: 2px 18px; padding: 8px 12px;
    border-top: 1px solid var(--rule); } .two tr { grid-template-columns: 1fr 1fr; }
  .cells th { grid-column: 1 / -1; font-size: 14px; } .cells th, .cells td { border: 0; padding: 0; }
  .cells td { display: flex; justify-content: space-between; gap: 8px; white-space: normal; }
  .cells td small { display: inline; margin-left: 8px; } .cells .of { display: block; color: var(--mute);
    font-weight: 400; text-align: left; }
  .cells td.bars { width: auto; min-width: 0; display: block; margin: 5px 0; } .cells caption { display: block; }
  .sortable th, .sortable td { padding: 5px 4px; } .sortable tbody th { overflow-wrap: anywhere; min-width: 90px; }
  .sortable thead th { font-size: 11.5px; } .filter input { display: block; width: 100%; margin: 4px 0; }
  th, td { padding: 6px; } thead th { white-space: normal; } th .mark { display: block; margin: 0 0 2px auto; }
  table { font-size: 13px; } tbody th { white-space: normal; } .legend { gap: 4px 14px; } }
"""
