"""The frozen CLIP: its architecture and weights, the prompts of a task, and the vectors of images and texts."""
