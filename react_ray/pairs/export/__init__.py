"""Stored images and vectors in; the files that other tools read, out."""
