"""The verb report: `ray job submit --working-dir . -- python jobs/report.py RECIPE [section.field=value ...]`."""

import sys

from react_ray.cli import main

if __name__ == "__main__":
    main(["report", *sys.argv[1:]])
