"""Files that people already have, one format a module; each is a Format of chunk.py. Next: reading.py."""
