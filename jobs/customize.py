"""The verb customize: `ray job submit --working-dir . -- python jobs/customize.py RECIPE [section.field=value ...]`."""

import sys

from react_ray.cli import main

if __name__ == "__main__":
    main(["customize", *sys.argv[1:]])
