"""Serves a database over HTTP: the API of `react-ray serve`, without Ray.

A request passes guard.py (key, limits), app.py (routes) and a Service (service.py), which encodes queries, asks the
groups of shards (groups.py) through a coordinator (coordinator.py) and describes the hits. In one process a group is a
ShardGroup; stages/serving puts each group into a Ray Serve deployment.
"""
