"""The web side of a pair: where it comes from (source.py) and what its bytes are (image.py). No torch, no ray."""
