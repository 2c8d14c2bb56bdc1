"""Search of a database in one process, without Ray: for a person at a terminal or in a notebook.

`open_database` in open_database.py opens one. A retrieval of many queries is the verb `retrieve`, which fans
out over nodes.
"""
