"""All verbs of a recipe: `ray job submit --working-dir . -- python jobs/react.py RECIPE [section.field=value ...]`."""

import sys

from react_ray.cli import main

if __name__ == "__main__":
    main(["run", *sys.argv[1:]])
