"""Backbone: the frozen CLIP, and the only place that knows open_clip.

Takes a name that open_clip knows, `hf-hub:...`, or a JSON in the layout of open_clip_config.json; gives the model, its
tokenizer and what a manifest must know of them. Next: clip/prompts.py.
"""

from __future__ import annotations

import contextlib
import copy
import difflib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import open_clip
import torch
from open_clip.model import convert_to_custom_text_state_dict
from open_clip.pretrained import download_pretrained_from_hf
from open_clip.transform import PreprocessCfg, image_transform_v2
from torch import Tensor, nn

from react_ray.clip.attention import use_self_attention
from react_ray.clip.config import BackboneConfig
from react_ray.clip.identity import tag_of
from react_ray.clip.weights import official_state_dict, read_weights, weights_bytes, weights_sha256, write_whole
from react_ray.errors import BackboneError
from react_ray.pairs.image import CropMode, Interpolation
from react_ray.storage import local_file

HUB = "hf-hub:"
# (model, state dict or None for random weights, the path that it was read from)
LoadWeights = Callable[[nn.Module, dict[str, Tensor] | None, str], None]


@dataclass
class Backbone:
    model: nn.Module
    tokenizer: Callable[[list[str]], Tensor]  # texts -> int64 [N, context_length]
    image_size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    dim: int
    context_length: int
    weights_sha256: str  # of names and raw bytes of all tensors
    text_sha256: str  # the same of those that texts pass
    config: BackboneConfig
    preprocess: dict[str, Any]
    model_cfg: dict[str, Any]  # as open_clip's files have it, with the activation that the weights need

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    @property
    def crop(self) -> CropMode:
        """How an image becomes a square, as the weights were trained (SigLIP's squash, CLIP's crop)."""
        return "squash" if self.preprocess["resize_mode"] == "squash" else "center_crop"

    @property
    def interpolation(self) -> Interpolation:
        return "bilinear" if self.preprocess["interpolation"] == "bilinear" else "bicubic"

    def normalize(self, image_BCHW: Tensor) -> Tensor:
        """uint8 or float images in [0, 255], already image_size x image_size -> float32 on the model's device."""
        if image_BCHW.shape[1:] != (3, self.image_size, self.image_size):
            size = f"[B, 3, {self.image_size}, {self.image_size}]"
            raise ValueError(f"images are {list(image_BCHW.shape)}, the backbone takes {size}; resize them first")
        mean, std = (torch.tensor(v, device=self.device).view(1, 3, 1, 1) * 255 for v in (self.mean, self.std))
        return (image_BCHW.to(self.device).float() - mean) / std

    def autocast(self) -> contextlib.AbstractContextManager[Any]:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.config.precision == "bf16")

    def describe(self) -> dict[str, Any]:
        """What manifests say about the model that made them."""
        return {
            "name": self.config.name,
            "tag": tag_of(self.config),
            "weights_sha256": self.weights_sha256,
            "text_sha256": self.text_sha256,
            "image_size": self.image_size,
            "mean": list(self.mean),
            "std": list(self.std),
            "crop": self.crop,
            "interpolation": self.interpolation,
            "dim": self.dim,
            "precision": self.config.precision,
        }


def make_backbone(
    config: BackboneConfig, load: LoadWeights, device: str | torch.device = "cpu", seed: int = 0, weights: str = ""
) -> Backbone:
    """The model in eval mode, all parameters float32. seed: of random weights.

    load: puts the weights into the model, and whatever else belongs to it; gated/load.py has the one for all models here.
    weights: tag or file to read in the place of config.pretrained, which still says activation and preprocessing.
    """
    spec, preprocess = architecture(config)
    config = config.model_copy(update={"pretrained": weights or config.pretrained})
    path = _local_weights(config, bool(weights))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = _make(spec)
    state = read_weights(path) if path else None
    if state is not None and not hasattr(model, "positional_embedding") and "positional_embedding" in state:
        state = convert_to_custom_text_state_dict(state)
    load(model, state, path)
    model.eval().to(device)
    model.visual.preprocess_cfg = preprocess
    return Backbone(
        model=model,
        tokenizer=_tokenizer(config.name, spec),
        image_size=_square(preprocess["size"]),
        mean=tuple(preprocess["mean"]),
        std=tuple(preprocess["std"]),
        dim=int(spec["embed_dim"]),
        context_length=_context_length(spec),
        weights_sha256=weights_sha256(model.state_dict()),
        text_sha256=weights_sha256(_of_text(model.state_dict())),
        config=config,
        preprocess=preprocess,
        model_cfg={k: v for k, v in spec.items() if k != "_name"},
    )


def empty_model(name: str) -> nn.Module:
    """The model of a name on the meta device: shapes, no memory."""
    with torch.device("meta"):
        return _make(_spec(name)[0])


def _make(spec: dict[str, Any]) -> Any:
    make = open_clip.CustomTextCLIP if _has_own_text_tower(spec) else open_clip.CLIP
    model = make(**{k: v for k, v in spec.items() if k not in ("custom_text", "_name")}, nonscalar_logit_scale=True)
    use_self_attention(model)
    return model


def save_backbone(model: nn.Module, path: str, dtype: torch.dtype = torch.float16) -> None:
    """All weights as .safetensors in the released layout; the same weights give the same bytes."""
    write_whole(path, weights_bytes(official_state_dict(model), {}, dtype))


def transforms(backbone: Backbone) -> tuple[Callable[..., Tensor], Callable[..., Tensor]]:
    """open_clip's (train, val) transforms of PIL images for this model."""
    config = PreprocessCfg(**backbone.preprocess)
    return image_transform_v2(config, is_train=True), image_transform_v2(config, is_train=False)


def embedding_dim(name: str) -> int:
    """Dimensions of a model's vectors, known without its weights."""
    return int(_spec(name)[0]["embed_dim"])


def load_tokenizer(name: str) -> Callable[[list[str]], Tensor]:
    """The tokenizer of a model name: texts -> int64 [N, context_length]."""
    spec, _ = _spec(name)
    return _tokenizer(name, spec)


def architecture(config: BackboneConfig) -> tuple[dict[str, Any], dict[str, Any]]:
    """(model config, preprocess config) as name, tag and recipe say, without the weights."""
    name = config.name
    spec, given = _spec(name)
    given |= _tag(name, config.pretrained)
    preprocess = asdict(PreprocessCfg())
    preprocess |= {k: v for k, v in given.items() if k in preprocess}
    preprocess |= {k: tuple(v) for k, v in (("mean", config.mean), ("std", config.std)) if v}
    preprocess["size"] = spec["vision_cfg"].get("image_size", 224)
    if preprocess["resize_mode"] == "longest":
        raise BackboneError(
            f"backbone.name={name}: it pads its images (resize_mode=longest); choose a model that crops or squashes"
        )
    # The tag knows with which activation its weights were trained, whatever the name says.
    spec["quick_gelu"] = bool(config.quick_gelu or spec.get("quick_gelu") or given.get("quick_gelu"))
    if "timm_model_name" in spec["vision_cfg"]:
        spec["vision_cfg"]["timm_model_pretrained"] = False
    if "hf_model_name" in spec["text_cfg"]:
        spec["text_cfg"]["hf_model_pretrained"] = False
    return spec, preprocess


def _tag(name: str, pretrained: str) -> dict[str, Any]:
    """What open_clip knows of a tag; {} if it is none."""
    if not pretrained or name.startswith(HUB) or name.endswith(".json"):
        return {}
    return open_clip.get_pretrained_cfg(name, pretrained)


def _local_weights(config: BackboneConfig, instead: bool) -> str:
    """Local path, "" for random weights. instead: config.pretrained takes the place of a hub's own."""
    name, pretrained = config.name, config.pretrained
    if name.startswith(HUB) and not instead:
        return hub_file(name.removeprefix(HUB))
    if not pretrained:
        return ""
    tag = _tag(name, pretrained)
    return _download(tag, name, pretrained) if tag else _weights_file(name, pretrained)


def _spec(name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """(model config, preprocess config as far as the name tells), both free to be changed."""
    if name.startswith(HUB) or name.endswith(".json"):
        path = hub_file(name.removeprefix(HUB), "open_clip_config.json") if name.startswith(HUB) else local_file(name)
        file = json.loads(Path(path).read_text())
        spec, given = file.get("model_cfg", {}), file.get("preprocess_cfg", {})
        if not {"embed_dim", "vision_cfg", "text_cfg"} <= spec.keys():
            raise BackboneError(
                f"{name}: no model_cfg with embed_dim, vision_cfg, text_cfg; write one as open_clip_config.json has it"
            )
    else:
        spec, given = open_clip.get_model_config(name), {}
        if spec is None:
            near = difflib.get_close_matches(name, open_clip.list_models(), n=3, cutoff=0.4) or ["ViT-B-32"]
            raise BackboneError(f"backbone.name={name}: open_clip has no such model; did you mean {' or '.join(near)}?")
    if "multimodal_cfg" in spec:
        raise BackboneError(f"backbone.name={name}: CoCa models are not supported; choose a CLIP such as ViT-B-32")
    return copy.deepcopy(spec), dict(given)


def _weights_file(name: str, pretrained: str) -> str:
    tags = [] if name.endswith(".json") else open_clip.list_pretrained_tags_by_model(name)
    if pretrained.endswith((".pt", ".pth", ".bin", ".safetensors")) or "/" in pretrained:
        return local_file(pretrained)
    near = difflib.get_close_matches(pretrained, tags, n=3, cutoff=0.3) or tags[:3]
    hint = f"did you mean {' or '.join(near)}?" if near else "name a .safetensors or .pt file"
    raise BackboneError(f"backbone.pretrained={pretrained}: neither a tag of {name} nor a file of weights; {hint}")


def _download(tag: dict[str, Any], name: str, pretrained: str) -> str:
    try:
        return open_clip.download_pretrained(tag)
    except Exception as error:  # whatever the hub's client raises, the answer is the same
        raise BackboneError(
            f"backbone.pretrained={pretrained}: the weights of {name} could not be downloaded "
            f"({str(error).splitlines()[0]}); go online once, or name a local file"
        ) from error


def hub_file(repository: str, filename: str | None = None, cache_dir: str | None = None) -> str:
    """Local path of a file on the Hugging Face hub, fetched once; None = the weights, whatever their name."""
    try:
        wanted = {} if filename is None else {"filename": filename}
        return download_pretrained_from_hf(repository, cache_dir=cache_dir, **wanted)
    except Exception as error:  # as above
        raise BackboneError(
            f"{filename or 'the weights'} of {repository} could not be downloaded ({str(error).splitlines()[0]}); "
            "go online once, or name a local file"
        ) from error


def _has_own_text_tower(spec: dict[str, Any]) -> bool:
    return bool(spec.get("custom_text")) or "hf_model_name" in spec["text_cfg"]


def _tokenizer(name: str, spec: dict[str, Any]) -> Callable[[list[str]], Tensor]:
    text_cfg = spec["text_cfg"]
    context_length = _context_length(spec)
    if name.endswith(".json") and not text_cfg.get("hf_tokenizer_name"):
        return open_clip.SimpleTokenizer(context_length=context_length, **text_cfg.get("tokenizer_kwargs", {}))
    if name.endswith(".json"):
        name = HUB + text_cfg["hf_tokenizer_name"]
    try:
        return open_clip.get_tokenizer(name, context_length=context_length)
    except Exception as error:
        raise BackboneError(
            f"backbone.name={name}: its tokenizer could not be loaded ({str(error).splitlines()[0]}); go online once, "
            "or choose a model with open_clip's own"
        ) from error


def _context_length(spec: dict[str, Any]) -> int:
    return int(spec["text_cfg"].get("context_length", 77))


def _of_text(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """A unit vector of a text depends on neither the image tower nor the temperature."""
    return {name: value for name, value in state.items() if not name.startswith(("visual.", "logit_"))}


def _square(size: int | list[int] | tuple[int, ...]) -> int:
    sides = {size} if isinstance(size, int) else set(size)
    if len(sides) != 1:
        raise BackboneError(f"the image tower takes {size} pixels; choose one with square images")
    return int(sides.pop())
