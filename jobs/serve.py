"""The verb serve: `ray job submit --working-dir . -- python jobs/serve.py RECIPE [section.field=value ...]`."""

import sys

from react_ray.cli import main

if __name__ == "__main__":
    main(["serve", *sys.argv[1:]])
