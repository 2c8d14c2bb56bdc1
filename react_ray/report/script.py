"""Defines the page's only script: filtering and sorting its tables. The page shows everything without it, too.

The script is a constant that contains no data, and the page's policy lets no other script run.
"""

from __future__ import annotations

import base64
import hashlib

# `<input data-filter="ID">` hides the rows of table ID that lack one of the words; a click on a head sorts by it.
SCRIPT = """
for (const box of document.querySelectorAll("input[data-filter]")) {
  const body = document.getElementById(box.dataset.filter).tBodies[0];
  const rows = [...body.rows].map(row => [row, row.textContent.toLowerCase()]);
  const line = box.closest("p"), count = line.querySelector("output");
  const show = () => {
    const words = box.value.toLowerCase().split(/\\s+/).filter(word => word);
    let shown = 0;
    for (const [row, text] of rows) {
      row.hidden = !words.every(word => text.includes(word));
      shown += !row.hidden;
    }
    count.textContent = `${shown} of ${rows.length}`;
  };
  box.addEventListener("input", show);
  line.hidden = false;
  show();
}
for (const head of document.querySelectorAll("table.sortable thead th")) {
  const sort = () => {
    const up = head.getAttribute("aria-sort") === "descending";
    for (const other of head.parentElement.cells) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", up ? "ascending" : "descending");
    const body = head.closest("table").tBodies[0], at = head.cellIndex;
    const value = row => row.cells[at].dataset.v ?? row.cells[at].textContent;
    const numbers = head.classList.contains("n");
    const compare = (a, b) => numbers ? value(a) - value(b) : value(a).localeCompare(value(b));
    body.append(...[...body.rows].sort((a, b) => up ? compare(a, b) : compare(b, a)));
  };
  head.tabIndex = 0;
  head.addEventListener("click", sort);
  head.addEventListener("keydown", event => { if (event.key === "Enter") sort(); });
}
"""


def policy(script: str) -> str:
    """Returns a page's Content-Security-Policy: its own style, this script, pictures inside the page, no network."""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
