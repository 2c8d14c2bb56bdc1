"""Reads the file formats of sources, one per module.

Each is a Format (chunk.py): it plans a file as chunks of rows, and reads the chunks that a part needs. detect.py
chooses the format. spans.py reads plain and gzipped bytes, arrays.py NumPy arrays; reading.py turns errors of libraries
into ours.
"""
