"""Reads models that lie in a folder: a JSON in the layout of open_clip_config.json, and a file of weights beside it.

A folder is named by its URI, with or without open_clip's `local-dir:`, or by the URI of the JSON in it. The cache of
the Hugging Face hub has such folders too: `models--ORG--REPO/snapshots/HASH`, whose files are links.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from react_ray.clip.identity import CONFIG_FILE, LOCAL_DIR, WEIGHT_FILES
from react_ray.errors import BackboneError
from react_ray.metadata import parse_json
from react_ray.storage import join, local_file, open_storage, read_bytes
from react_ray.uri import absolute, is_local

# If a folder holds several of these, open_clip takes the first.
USUAL_NAMES = (
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.safetensors",
    "open_clip_pytorch_model.bin",
    "open_clip_pytorch_model.pth",
    "model.safetensors",
    "pytorch_model.bin",
    "pytorch_model.pth",
    "model.pth",
)
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "vocab.json", "vocab.txt", "spiece.model")


def find_folder(text: str) -> str:
    """Returns the URI of the folder that `text` names, "" if it names none.

    Raises BackboneError if `local-dir:` stands before something that is no folder.
    """
    uri = text.removeprefix(LOCAL_DIR)
    if not uri.strip() or (uri.lower().endswith((*WEIGHT_FILES, ".json")) and not text.startswith(LOCAL_DIR)):
        return ""
    if not is_local(uri):
        return absolute(uri) if open_storage(uri).list() else ""
    uri = absolute(uri)
    if os.path.isdir(uri):
        return _snapshot(uri)
    if text.startswith(LOCAL_DIR):
        raise BackboneError(f"{text}: there is no such folder; name one that holds {CONFIG_FILE} and its weights")
    return ""


def find_config(text: str) -> str:
    """Returns the URI of the JSON of the model that `text` names: the JSON itself, or that of a folder; "" if none."""
    if text.lower().endswith(".json") and not text.startswith(LOCAL_DIR):
        return text
    folder = find_folder(text)
    if folder and open_storage(folder).exists(CONFIG_FILE):
        return join(folder, CONFIG_FILE)
    if text.startswith(LOCAL_DIR):
        raise BackboneError(f"{text}: there is no {CONFIG_FILE} in it; name a folder in the layout of open_clip")
    return ""


def read_config(path: str, name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns (model_cfg, preprocess_cfg) of a local JSON; a JSON without these keys is a model_cfg itself."""
    file = parse_json(read_bytes(path), f"{name}: {path}", f"write it as {CONFIG_FILE} is", BackboneError)
    spec = file.get("model_cfg", file) if isinstance(file, dict) else {}
    given = file.get("preprocess_cfg") or {} if isinstance(file, dict) else {}
    parts = [spec, given] + [spec.get(key) for key in ("vision_cfg", "text_cfg") if isinstance(spec, dict)]
    if not all(isinstance(part, dict) for part in parts) or not isinstance(spec.get("embed_dim"), int):
        raise BackboneError(
            f"{name}: no model_cfg with embed_dim, vision_cfg, text_cfg; write one as {CONFIG_FILE} has it"
        )
    return spec, given


def weights_beside(config_uri: str) -> str:
    """Returns the local path of the weights in the folder of a JSON.

    Of several files, the first of the USUAL_NAMES is taken, or the one that is named like the JSON. Raises
    BackboneError if there is none, or if it is not clear which one is meant.
    """
    folder, _, name = absolute(config_uri).rpartition("/")
    return _choose(folder, name.rpartition(".")[0])


def weights_in(folder: str) -> str:
    """Returns the local path of the weights in a folder, chosen as in `weights_beside`."""
    return _choose(folder, "")


def tokenizer_folder(config_uri: str) -> str:
    """Returns the local folder of the JSON if it holds a tokenizer of the Hugging Face layout, otherwise ""."""
    folder = absolute(config_uri).rpartition("/")[0]
    here = is_local(folder) and any(os.path.isfile(join(folder, name)) for name in TOKENIZER_FILES)
    return folder if here else ""


def _choose(folder: str, stem: str) -> str:
    found = [name for name in _names(folder) if name.lower().endswith(WEIGHT_FILES)]
    ranked = [name for name in USUAL_NAMES if name in found] or [
        name for name in found if name.rpartition(".")[0] == stem
    ]
    if not found:
        raise BackboneError(
            f"{folder} holds no file of weights; set backbone.pretrained to one, to a tag of open_clip, or to random"
        )
    if not ranked and len(found) > 1:
        raise BackboneError(
            f"{folder} holds several files of weights ({', '.join(found[:5])}); set backbone.pretrained to one of "
            "them, or to random"
        )
    return local_file(join(folder, (ranked or found)[0]))


def _names(folder: str) -> list[str]:
    if is_local(folder):
        return sorted(os.listdir(folder))  # also links that lead nowhere, about which `local_file` complains
    return [path for path in open_storage(folder).list() if "/" not in path]


def _snapshot(folder: str) -> str:
    """Returns the snapshot within a repository of the hub's cache: that of `main`, or the only one."""
    if any(name == CONFIG_FILE or name.lower().endswith(WEIGHT_FILES) for name in os.listdir(folder)):
        return folder
    within = Path(folder) if Path(folder).name == "snapshots" else Path(folder, "snapshots")
    main = within.parent / "refs/main"
    if main.is_file() and (within / main.read_text().strip()).is_dir():
        return str(within / main.read_text().strip())
    found = [path for path in within.iterdir() if path.is_dir()] if within.is_dir() else []
    return str(found[0]) if len(found) == 1 else folder
