"""The frozen model: backbone.py (load it), prompts.py (what to recognise), embedder.py (arrays in, vectors out). No ray."""
