"""Ray Serve: a deployment for each group of shards, and one that takes requests. react_ray/serving/ is what they do."""
