"""The verb embed: `ray job submit --working-dir . -- python jobs/embed.py RECIPE [section.field=value ...]`."""

import sys

from react_ray.cli import main

if __name__ == "__main__":
    main(["embed", *sys.argv[1:]])
