"""The verb retrieve: `ray job submit --working-dir . -- python jobs/retrieve.py RECIPE [section.field=value ...]`."""

import sys

from react_ray.cli import main

if __name__ == "__main__":
    main(["retrieve", *sys.argv[1:]])
