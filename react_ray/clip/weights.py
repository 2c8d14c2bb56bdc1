"""Reads, writes, loads and digests weights; reading a file never executes code from it.

Takes paths of .safetensors or .pt files, gives {name: tensor}. `logit_scale` and the gates are scalars in files and
have shape [1] in models, because DeepSpeed cannot broadcast 0-dim parameters.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from react_ray.errors import BackboneError
from react_ray.metadata import parse_json, shaped

SCALARS = ("logit_scale", "logit_bias", "alpha_attn", "alpha_dense")
METADATA_KEY = "react_ray"
NUM_SHOWN = 5
# What training frameworks put around a model, in the file's structure and in the names of its tensors.
WRAPPERS = ("state_dict", "model_state_dict", "model", "module")
PREFIXES = tuple(f"{name}." for name in WRAPPERS)
WITHIN = re.compile(r"(^|\.)(?:_orig_mod|_forward_module|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")


def read_weights(path: str) -> dict[str, Tensor]:
    """Returns {name: tensor} of a local file, under the names that the model itself gives them.

    {'state_dict': ...} is unwrapped, and the names lose what torch.compile (`_orig_mod.`), DistributedDataParallel
    (`module.`), FSDP, DeepSpeed and Lightning (`_forward_module.`, `model.`) put before them.
    """
    return _plain_names(_read_safetensors(path) if is_safetensors(path) else _read_pickle(path), path)


def is_safetensors(path: str) -> bool:
    """Returns True for a file that is one by its content, whatever its name, or that its name alone calls one."""
    try:
        with open(path, "rb") as file:
            start = file.read(9)
    except OSError:  # the reader says why
        start = b""
    is_pickle = start[:2] == b"PK" or start[:1] == b"\x80"
    return start[8:] == b"{" or (path.endswith(".safetensors") and not is_pickle)


def _read_safetensors(path: str) -> dict[str, Tensor]:
    try:
        return safetensors.torch.load_file(path)
    except (SafetensorError, OSError) as error:
        raise BackboneError(f"{path}: not a safetensors file ({error}); check the path or write it again") from error


def _read_pickle(path: str) -> dict[str, Tensor]:
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # damaged pickles raise whatever their bytes happen to mean
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise BackboneError(
            f"{path}: no checkpoint of plain tensors ({reason}); save its state dict as .safetensors and name that file"
        ) from error
    while isinstance(content, dict):
        inner = [content[key] for key in WRAPPERS if isinstance(content.get(key), dict)]
        if not inner:
            break
        content = inner[0]
    if not content or not isinstance(content, dict) or not all(isinstance(v, Tensor) for v in content.values()):
        raise BackboneError(f"{path}: holds no state dict; save {{name: tensor}} as .safetensors and name that file")
    return dict(content)


def _plain_names(state: dict[str, Tensor], path: str) -> dict[str, Tensor]:
    names = {name: WITHIN.sub(r"\1", name) for name in state}
    while prefix := next((p for p in PREFIXES if names and all(n.startswith(p) for n in names.values())), ""):
        names = {name: plain.removeprefix(prefix) for name, plain in names.items()}
    if len(set(names.values())) < len(names):
        raise BackboneError(f"{path}: holds tensors of one name in and outside of a wrapper; save one state dict")
    return {plain: state[name] for name, plain in names.items()}


def read_info(path: str) -> dict[str, Any]:
    """Returns the `info` that `weights_bytes` stored with the weights; {} for files written by other programs."""
    if not path or not is_safetensors(path):
        return {}
    try:
        with safe_open(path, framework="pt") as file:
            info = (file.metadata() or {}).get(METADATA_KEY, "{}")
    except (SafetensorError, OSError) as error:
        raise BackboneError(f"{path}: not a safetensors file ({error}); check the path or write it again") from error
    where = f"the {METADATA_KEY} of {path}"
    return shaped(
        parse_json(info.encode(), where, "write it again", BackboneError),
        dict[str, Any],
        where,
        "write it again",
        BackboneError,
    )


def weights_bytes(tensors: dict[str, Tensor], info: dict[str, Any], dtype: torch.dtype | None = None) -> bytes:
    """Returns a .safetensors file; the same tensors and info give the same bytes.

    dtype: converts floating tensors, None keeps their own.
    """
    ready = {}
    for name in sorted(tensors):
        value = tensors[name].detach().to("cpu", dtype if tensors[name].is_floating_point() else None)
        ready[name] = (value.reshape(()) if is_scalar(name) else value).contiguous()
    return safetensors.torch.save(ready, metadata={METADATA_KEY: json.dumps(info, sort_keys=True)})


def load_strict(model: nn.Module, state: dict[str, Tensor], origin: str, names: Iterable[str] | None = None) -> None:
    """Copies `state` into `model` and converts floating tensors to the model's dtype.

    names: the keys that `state` must have, neither more nor fewer; None = all keys of the model.
    Raises BackboneError with the first keys that are missing, unexpected, of another shape, no floats or not finite.
    """
    own = model.state_dict()
    parameters = {name for name, _ in model.named_parameters()}
    wanted = set(own) if names is None else set(names)
    state = {k: v for k, v in state.items() if not k.endswith("position_ids") or k in own}
    problems = [f"{name} is missing" for name in sorted(wanted - set(state))]
    problems += [f"{name} is not in the model" for name in sorted(set(state) - wanted)]
    for name in sorted(wanted & set(state)):
        value = state[name]
        if is_scalar(name) and value.numel() == 1:
            value = state[name] = value.reshape(own[name].shape)
        if value.shape != own[name].shape:
            problems.append(f"{name} is {list(value.shape)}, the model has {list(own[name].shape)}")
        elif value.is_floating_point() != own[name].is_floating_point():
            problems.append(f"{name} is {value.dtype}, the model has {own[name].dtype}")
        elif name in parameters and not torch.isfinite(value).all():
            problems.append(f"{name} has values that are not finite")
    if problems:
        more = f" and {len(problems) - NUM_SHOWN} more" if len(problems) > NUM_SHOWN else ""
        raise BackboneError(
            f"{origin} does not fit the model: {'; '.join(problems[:NUM_SHOWN])}{more}; "
            "name the model that it was made for"
        )
    with torch.no_grad():
        for name in sorted(wanted):
            own[name].copy_(state[name])


def is_scalar(name: str) -> bool:
    return name.rpartition(".")[2] in SCALARS


def weights_sha256(tensors: dict[str, Tensor]) -> str:
    """Digests names and raw bytes in the order of names; device and 0-dim versus [1] make no difference."""
    return digest_of(sorted(tensors.items(), key=lambda item: item[0]))


def digest_of(tensors: Iterable[tuple[str, Tensor]]) -> str:
    """Computes `weights_sha256` from an iterator of tensors in the order of names."""
    sha = hashlib.sha256()
    for name, tensor in tensors:
        value = tensor.detach().to("cpu").contiguous().reshape(-1)
        sha.update(f"{name} {value.dtype}\n".encode())
        sha.update(value.view(torch.uint8).numpy().data)
    return sha.hexdigest()


def official_state_dict(model: nn.Module) -> dict[str, Tensor]:
    """Returns all weights in the layout of the released REACT checkpoints, for torch.save or `weights_bytes`."""
    return {name: at_the_edge(name, value) for name, value in model.state_dict().items()}


def at_the_edge(name: str, value: Tensor) -> Tensor:
    """Returns a copy on the CPU in the shape that files have, where gates and logit_scale are scalars."""
    copy = value.detach().to("cpu", copy=True)
    return copy.reshape(()) if is_scalar(name) else copy


def write_whole(path: str, data: bytes) -> None:
    """Writes a local file atomically: a reader sees the old file or the new one."""
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=target.parent, prefix=f".{target.name}", delete=False) as file:
        file.write(data)
    os.replace(file.name, target)
