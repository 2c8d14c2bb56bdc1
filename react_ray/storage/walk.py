"""Lists the files below a local folder as a user sees them: links to files and folders are followed."""

from __future__ import annotations

import os

from react_ray.errors import StorageError

WRITING = ".writing-"  # begins the name of a file that is being written


def walk(root: str) -> tuple[dict[str, int], list[str]]:
    """Returns the size of each file by its path below `root`, sorted, and the paths of what cannot be read: links that
    lead nowhere, pipes, sockets and devices.

    Raises StorageError if a link leads to a folder that holds it.
    """
    sizes: dict[str, int] = {}
    unreadable: list[str] = []
    todo: list[tuple[str, str, tuple[tuple[int, int], ...]]] = [(root, "", ())] if os.path.isdir(root) else []
    while todo:
        folder, path, above = todo.pop()
        found = os.stat(folder)
        here = found.st_dev, found.st_ino
        if here in above:
            raise StorageError(
                f"cannot list {root}: {path.rstrip('/')} is a link to a folder that holds it, and so has no end; "
                "remove the link"
            )
        with os.scandir(folder) as entries:
            for entry in entries:
                name = path + entry.name
                if _is_folder(entry):
                    todo.append((entry.path, f"{name}/", (*above, here)))
                elif not _is_file(entry):
                    unreadable.append(name)
                elif not entry.name.startswith(WRITING):
                    sizes[name] = entry.stat().st_size
    return dict(sorted(sizes.items())), sorted(unreadable)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _is_file(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_file()
    except OSError:
        return False
