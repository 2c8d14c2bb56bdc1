"""What `evaluate` consists of: the models to score, and classifying a slice of images with one."""
