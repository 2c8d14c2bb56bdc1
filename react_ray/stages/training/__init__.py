"""The parts of `customize`."""
