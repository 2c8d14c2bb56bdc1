"""The look of the gallery, on top of the report's style, and its script.

A class that is off the screen is not laid out (content-visibility), so that thousands of classes scroll smoothly.
"""

from __future__ import annotations

GALLERY_CSS = """
main.gallery { max-width: 1280px; }
.gallery .warning { border-left: 3px solid var(--down); padding: 2px 0 2px 12px; margin-top: 14px; max-width: 60em; }
.gallery .notes ul { margin: 8px 0; padding-left: 20px; font-size: 13.5px; overflow-wrap: anywhere; }
.tools { position: sticky; top: 0; z-index: 1; display: flex; flex-wrap: wrap; gap: 8px 12px; align-items: center;
  padding: 12px 0; margin-top: 20px; background: var(--page); border-bottom: 1px solid var(--rule); font-size: 14px; }
.tools[hidden] { display: none; }
.tools input[type=search] { flex: 1 1 220px; min-width: 0; }
.tools input[type=search], .tools select { font: inherit; color: var(--ink); background: var(--card); height: 36px;
  border: 1px solid var(--rule); border-radius: 8px; padding: 0 10px; max-width: 100%; }
.tools label { display: flex; gap: 6px; align-items: center; }
.tools #count { color: var(--mute); font-variant-numeric: tabular-nums; }
.entry { border-bottom: 1px solid var(--rule); padding: 20px 0 18px; content-visibility: auto;
  contain-intrinsic-size: auto 200px; scroll-margin-top: 64px; display: grid; grid-template-columns: 230px 1fr;
  gap: 6px 24px; }
.entry[hidden] { display: none; }
.entry h2 { margin: 0; font-size: 17px; line-height: 1.35; overflow-wrap: anywhere; }
.entry h2 small { font-weight: 400; font-size: 13.5px; color: var(--mute); margin-left: 8px; }
.entry .flag { display: inline-block; font-size: 12px; font-weight: 600; line-height: 1.7; color: var(--down);
  border: 1px solid currentColor; border-radius: 99px; padding: 0 9px; margin: 4px 6px 2px 0; }
.entry .measures { margin: 2px 0 0; font-size: 13px; color: var(--mute); font-variant-numeric: tabular-nums; }
.entry .measures span { display: block; } .entry .measures b { color: var(--ink); }
.entry .prompt { margin: 0; font-size: 13px; color: var(--mute); overflow-wrap: anywhere; }
.entry .advice { margin: 8px 0 0; padding-left: 18px; font-size: 13.5px; line-height: 1.4; overflow-wrap: anywhere; }
.entry .between { font-size: 12.5px; color: var(--mute); margin: 12px 0 6px; }
.pairs { display: grid; grid-template-columns: repeat(auto-fill, minmax(104px, 1fr)); gap: 14px 12px; }
.pairs figure { margin: 0; min-width: 0; font-size: 12px; line-height: 1.35; }
.pairs img, .pairs .missing { width: 96px; height: 96px; display: block; border: 1px solid var(--rule);
  border-radius: 8px; margin-bottom: 5px; max-width: 100%; }
.pairs img { object-fit: contain; background: #fff; }
.pairs .missing { display: flex; align-items: center; justify-content: center; text-align: center; padding: 6px;
  background: var(--track); color: var(--mute); overflow-wrap: anywhere; }
.pairs .found, .pairs .others { display: block; color: var(--mute); font-variant-numeric: tabular-nums; }
.pairs .others { overflow-wrap: anywhere; }
.pairs .text { display: -webkit-box; -webkit-line-clamp: 4; -webkit-box-orient: vertical; overflow: hidden;
  overflow-wrap: anywhere; }
.gallery a { color: inherit; text-decoration-color: var(--mute); text-underline-offset: 2px; }
@media (max-width: 760px) {
  .entry { grid-template-columns: 1fr; padding: 16px 0 14px; contain-intrinsic-size: auto 320px; }
  .entry .measures span { display: inline; } .entry .measures span + span::before { content: " · "; }
  .pairs { grid-template-columns: repeat(auto-fill, minmax(96px, 1fr)); gap: 12px 8px; }
  .tools { gap: 8px; } .tools input[type=search] { flex-basis: 100%; } .tools select { flex: 1 1 120px; } }
"""

SCRIPT = """
const box = id => document.getElementById(id), list = box('classes'), all = [...list.children];
const text = new Map(all.map(one => [one, one.textContent.toLowerCase()]));
const number = name => (a, b) => b.dataset[name] - a.dataset[name];
const orders = { weakest: () => 0, name: (a, b) => a.dataset.name.localeCompare(b.dataset.name),
  most: number('pairs'), best: number('score') };
function show() {
  const words = box('filter').value.toLowerCase().split(/\\s+/).filter(Boolean);
  const task = box('task') ? box('task').value : '', only = box('flagged') && box('flagged').checked;
  let count = 0;
  for (const one of all) {
    const wanted = words.every(word => text.get(one).includes(word)) && (!task || one.dataset.task === task)
      && (!only || one.dataset.flags > 0);
    one.hidden = !wanted;
    count += wanted;
  }
  box('none').hidden = count > 0;
  box('count').textContent = count.toLocaleString('en') + ' of ' + all.length.toLocaleString('en') + ' classes';
}
function sort() { list.append(...[...all].sort(orders[box('order').value])); }
for (const id of ['filter', 'task', 'flagged']) if (box(id)) box(id).addEventListener('input', show);
box('order').addEventListener('input', sort);
box('tools').hidden = false;
show();
"""
