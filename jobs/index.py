"""The verb index: `ray job submit --working-dir . -- python jobs/index.py RECIPE [section.field=value ...]`."""

import sys

from react_ray.cli import main

if __name__ == "__main__":
    main(["index", *sys.argv[1:]])
