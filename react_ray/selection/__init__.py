"""Which of the pairs that were hit become the training set."""
