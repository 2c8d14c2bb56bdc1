"""The verb evaluate: `ray job submit --working-dir . -- python jobs/evaluate.py RECIPE [section.field=value ...]`."""

import sys

from react_ray.cli import main

if __name__ == "__main__":
    main(["evaluate", *sys.argv[1:]])
