"""The verb ingest: `ray job submit --working-dir . -- python jobs/ingest.py RECIPE [section.field=value ...]`."""

import sys

from react_ray.cli import main

if __name__ == "__main__":
    main(["ingest", *sys.argv[1:]])
