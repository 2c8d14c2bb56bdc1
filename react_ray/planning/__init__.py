"""What a whole job takes on this machine, before any of it starts: `react-ray plan`. It never starts Ray."""
