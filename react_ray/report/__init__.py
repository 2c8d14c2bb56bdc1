"""The report of a run: one HTML file (page.py) and a table for the terminal (table.py)."""
