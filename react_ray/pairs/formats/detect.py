"""Lists the files of a source and infers their format from file names, unless `ingest.format` names it."""

from __future__ import annotations

from react_ray.errors import ConfigError, StorageError
from react_ray.pairs.formats.arrow import Arrow
from react_ray.pairs.formats.beside import head_of, printable
from react_ray.pairs.formats.chunk import Format
from react_ray.pairs.formats.delimited import Delimited
from react_ray.pairs.formats.folder_table import FolderTable, folder_table
from react_ray.pairs.formats.image_folder import ImageFiles
from react_ray.pairs.formats.json_array import is_array
from react_ray.pairs.formats.json_rows import JsonRows
from react_ray.pairs.formats.lines import Lines
from react_ray.pairs.formats.parquet import Parquet
from react_ray.pairs.formats.reading import reading
from react_ray.pairs.formats.seen import Seen
from react_ray.pairs.formats.spans import encoding_of, open_bytes
from react_ray.pairs.formats.suffixes import (
    CAPTION_SUFFIXES,
    OTHER_IMAGES,
    find_images,
    holds_text,
    is_image,
    is_visible,
    suffix_of,
)
from react_ray.pairs.formats.tar import Tar
from react_ray.pairs.formats.vector_files import VectorFiles, clip_retrieval, datacomp
from react_ray.pairs.image_cells import names_files
from react_ray.pairs.ingest_config import IngestConfig
from react_ray.pairs.names_beside import names_beside
from react_ray.storage import list_files, open_storage
from react_ray.uri import absolute, matches, split_glob

SUFFIXES: dict[str, tuple[str, ...]] = {
    "parquet": (".parquet", ".pq"),
    "arrow": (".arrow", ".feather", ".ipc"),
    "tar": (".tar", ".tar.gz", ".tgz"),
    "csv": (".csv", ".csv.gz"),
    "tsv": (".tsv", ".tsv.gz"),
    "jsonl": (".jsonl", ".jsonl.gz", ".ndjson", ".ndjson.gz"),
    "json": (".json", ".json.gz"),
    "txt": (".txt", ".txt.gz"),
    "npy": (".npy",),
    "npz": (".npz",),
}
IMAGES = "images"
NAMES = (*SUFFIXES, IMAGES)
TEXTS = ("csv", "tsv", "jsonl", "json", "txt")
HEAD_BYTES = 4096
BESIDE_IMAGES = frozenset(TEXTS)


def detect(config: IngestConfig, seen: Seen) -> tuple[Format, list[str]]:
    """Returns the format and its files in order, and counts in `seen` the files that it does not read.

    Raises StorageError if there are no files, ConfigError if they fit no format or several.
    """
    source, name = config.source, config.format
    uris = list_files(source)
    if not uris:
        raise StorageError(f"cannot read {source}: no such file, folder or glob with files; check ingest.source")
    is_file = uris == [absolute(source)]
    root, pattern = absolute(source).rpartition("/")[::2] if is_file else split_glob(source)
    held: dict[str, list[str]] = {}
    for uri in uris:
        if is_file or is_visible(_below(root, uri)):
            held.setdefault(_name_of(uri), []).append(uri)
        else:
            seen.pass_over("hidden files", printable(_below(root, uri)))
    if not is_file:
        for path in open_storage(root).files()[1]:
            if not pattern or matches(path, pattern):
                seen.pass_over("links that lead nowhere, pipes, sockets and devices", printable(path))
    if not name:
        _tell_by_content(held)
    named_images = "" if name else _table_of_paths(held, config.image_column)
    if named_images:
        seen.note(f"the images are those that the {named_images} files name: {len(held[IMAGES]):,} files of images")
    if not name and _is_img2dataset(held):
        seen.note("the Parquet files beside the numbered folders list what img2dataset downloaded, and are not read")
        held[""] = [*held.get("", []), *held.pop("parquet")]
    chosen = name or named_images or _choose(source, set(held) - {""}, next(iter(held.values()), uris)[0])
    format, files = _open(chosen, config, held, root, pattern, seen)
    if not isinstance(format, ImageFiles):  # which counts by itself
        used = {*files, *(format.beside if isinstance(format, VectorFiles) else ())}
        for uri in sorted(uri for some in held.values() for uri in some):
            if uri not in used and not ((named_images or isinstance(format, FolderTable)) and is_image(uri)):
                seen.pass_over(f"files that are not read as {chosen}", printable(_below(root, uri)))
    return format, files


def _open(
    chosen: str, config: IngestConfig, held: dict[str, list[str]], root: str, pattern: str, seen: Seen
) -> tuple[Format, list[str]]:
    if chosen == IMAGES:
        return _images(root, pattern, held, config.encoding)
    if chosen == "npy":
        return clip_retrieval([*held.get("npy", []), *held.get("parquet", [])])
    if chosen == "npz":
        return datacomp(held.get("npz", []), held.get("parquet", []), config.vector_prefix)
    files = held.get(chosen) or [uri for some in held.values() for uri in some]
    if not files:
        raise StorageError(f"cannot read {config.source}: it holds hidden files only; check ingest.source")
    if chosen == "txt" and not config.format:
        _check_no_captions(files, held.get("", []))
    with reading(files[0]):
        if chosen == "tar":
            names = names_beside(files[0].rpartition("/")[0])
            return Tar(config.image_column, config.caption_column, config.encoding, names=names), files
        if chosen in TEXTS:
            _check_text(files[0], config.encoding)
        return _format(chosen, files[0], config.encoding, _by_position(config)), files


def _tell_by_content(held: dict[str, list[str]]) -> None:
    """Counts files whose suffix is unknown as images if their first bytes are those of one."""
    unknown = held.get("", [])
    found = find_images((uri for uri in unknown if suffix_of(uri) not in (*CAPTION_SUFFIXES, *OTHER_IMAGES)), head_of)
    if found:
        held[IMAGES] = sorted([*held.get(IMAGES, []), *found])
        held[""] = [uri for uri in unknown if uri not in found]
        if not held[""]:
            del held[""]


def _table_of_paths(held: dict[str, list[str]], image_column: str) -> str:
    """Returns the format of tables whose column of images has paths, if they are all that lies beside images."""
    for name in ("parquet", "arrow"):
        if name in held and IMAGES in held and set(held) <= {name, IMAGES, "json", ""}:
            uri = held[name][0]
            with reading(uri):
                columns = _format(name, uri, "").plan(uri, 0, 1, Seen())[0]
            if any(names_files(field.type) for field in columns if field.name == image_column or not image_column):
                return name
    return ""


def _is_img2dataset(held: dict[str, list[str]]) -> bool:
    """True for its output format `files`: 00000.parquet beside the folder 00000, which holds images and their texts."""
    folders = {uri.rpartition("/")[0] for uri in held.get(IMAGES, [])}
    tables = held.get("parquet", [])
    return (
        bool(tables)
        and set(held) <= {IMAGES, "parquet", "json", "txt", ""}
        and all(uri.rpartition(".")[0] in folders for uri in tables)
    )


def _check_text(uri: str, encoding: str) -> None:
    with open_bytes(uri) as file:
        if not holds_text(file.read(HEAD_BYTES), encoding):
            raise ConfigError(f"ingest.source: {uri} is no text; name its format with ingest.format, or take it away")


def _check_no_captions(texts: list[str], unknown: list[str]) -> None:
    """Raises ConfigError if .txt files, which would be read as URLs, belong to files that are not read at all."""
    stems = {uri.rpartition(".")[0]: uri for uri in unknown}
    if text := next((uri for uri in texts if uri.rpartition(".")[0] in stems), ""):
        other = stems[text.rpartition(".")[0]]
        raise ConfigError(
            f"ingest.source: {text} lies beside {other}, which is of no kind that is read; convert it to an image, "
            "or say with ingest.format: txt that the .txt files are lists of URLs"
        )


def _below(root: str, uri: str) -> str:
    return uri.removeprefix(root).lstrip("/")


def _name_of(uri: str) -> str:
    lower = uri.lower()
    found = (name for name, suffixes in SUFFIXES.items() if lower.endswith(suffixes))
    return next(found, IMAGES if is_image(uri) else "")


def _choose(source: str, held: set[str], example: str) -> str:
    if not held:
        raise ConfigError(
            f"ingest.source: the format of {example} is not known by its name; "
            f"name it with ingest.format, one of {', '.join(NAMES)}"
        )
    tables = held - {"txt"}
    if "tar" in held and IMAGES not in held:
        return "tar"  # img2dataset writes .parquet and .json files beside its tars
    for vectors in ("npy", "npz"):  # Parquet files beside them are their metadata
        if vectors in held and held <= {vectors, "parquet", "json"}:
            return vectors
    if IMAGES in held and held <= {IMAGES, *BESIDE_IMAGES}:
        return IMAGES
    for binary, other in (("parquet", "arrow"), ("arrow", "parquet")):
        if binary in held and not held & {other, IMAGES}:
            return binary
    if len(tables) <= 1:
        return next(iter(tables), "txt")
    raise ConfigError(
        f"ingest.source: {source} holds {', '.join(sorted(held))}; say which is meant with ingest.format, "
        "or name its files alone, as with *.csv"
    )


def _by_position(config: IngestConfig) -> bool:
    return any(column.isdecimal() for column in (config.url_column, config.caption_column, config.image_column))


def _format(name: str, first: str, encoding: str, by_position: bool = False) -> Format:
    if name == "json":
        return JsonRows(is_array(first, encoding_of(first, encoding)), encoding)
    formats: dict[str, Format] = {
        "parquet": Parquet(),
        "arrow": Arrow(),
        "csv": Delimited(",", encoding, by_position=by_position),
        "tsv": Delimited("\t", encoding, by_position=by_position),
        "jsonl": JsonRows(False, encoding),
        "txt": Lines(encoding),
    }
    return formats[name]


def _images(root: str, pattern: str, held: dict[str, list[str]], encoding: str) -> tuple[Format, list[str]]:
    """Reads a folder of images by its table if there is one, or else file by file."""
    tables = {name: held[name] for name in ("csv", "tsv", "jsonl") if name in held and not pattern}
    metadata = {
        name: [uri for uri in uris if _file_name(uri).lower().startswith("metadata.")] for name, uris in tables.items()
    }
    wanted = {name: uris for name, uris in metadata.items() if uris} or tables
    if not wanted:
        return ImageFiles(pattern, encoding), [root]
    name, uris = next(iter(wanted.items()))
    if len(wanted) > 1 or (wanted is tables and len(uris) > 1):
        names = ", ".join(sorted(uri for some in wanted.values() for uri in some)[:5])
        raise ConfigError(
            f"ingest.source: {root} has images and several tables ({names}); keep one, or name it metadata.csv"
        )
    with reading(uris[0]):
        return folder_table(_format(name, uris[0], encoding), uris[0]), uris


def _file_name(uri: str) -> str:
    return uri.rpartition("/")[2]
