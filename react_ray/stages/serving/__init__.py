"""How a database is served: front.py in one process, the others by Ray Serve, a deployment for each group of shards.

react_ray/serving/ is what they do.
"""
