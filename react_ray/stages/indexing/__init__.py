"""The parts of `index`."""
