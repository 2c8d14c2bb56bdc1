"""Exports stored images in the layouts of img2dataset, and stored vectors in the layout of clip-retrieval."""
