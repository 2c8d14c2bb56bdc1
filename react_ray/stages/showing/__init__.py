"""What `show` consists of: the description of one artifact, the overview of a folder of them, and the gallery."""
