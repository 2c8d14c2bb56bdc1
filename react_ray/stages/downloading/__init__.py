"""The parts of `download`."""
