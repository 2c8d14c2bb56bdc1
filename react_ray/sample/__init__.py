"""The embedded data of the demo: emoji, flags, icons and clip art by many artists, with captions.

Reached as `sample://base.parquet`, `sample://pool.parquet`, `sample://validation.parquet`, `sample://test.parquet` and
`sample://tasks.json` through react_ray.storage; this folder holds no code. ATTRIBUTIONS.md states the authors, the
licences and the purpose of each file.
"""
