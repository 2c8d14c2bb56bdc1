"""`react-ray VERB RECIPE [section.field=value ...]`: the same grammar for every verb and for every file in jobs/.

Exit code 2 for a mistake that the user can correct, 1 for everything else, 130 and 143 after Ctrl-C and SIGTERM
(interrupt.py). Whatever is raised ends as one line (ending.py). A command imports what it needs when it runs.
"""

from react_ray.cli import compare, database, doctor, export, help, init, plan, search, serve, show, status, verbs
from react_ray.cli.app import SECTIONS, main

__all__ = [
    "SECTIONS",
    "compare",
    "database",
    "doctor",
    "export",
    "help",
    "init",
    "main",
    "plan",
    "search",
    "serve",
    "show",
    "status",
    "verbs",
]
