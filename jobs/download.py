"""The verb download: `ray job submit --working-dir . -- python jobs/download.py RECIPE [section.field=value ...]`."""

import sys

from react_ray.cli import main

if __name__ == "__main__":
    main(["download", *sys.argv[1:]])
