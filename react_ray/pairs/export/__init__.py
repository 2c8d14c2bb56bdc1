"""Exports stored images in the layouts of img2dataset, and vectors in those of clip-retrieval and Embedding Atlas."""
