"""What a run has to say, as one HTML file (page.py) and as a table for the terminal (table.py). No ray, no torch."""
