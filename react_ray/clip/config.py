"""Defines the recipe's sections BackboneConfig and EmbedConfig, without torch, so that a recipe loads in a moment."""

from __future__ import annotations

from typing import Literal

from pydantic import model_validator
from typing_extensions import Self

from react_ray.section import Section, field, speed

RANDOM = "random"  # as `pretrained`


class BackboneConfig(Section):
    name: str = field(
        "ViT-B-32",
        "model: a name that open_clip knows, hf-hub:ORG/REPO, or the URI of a folder with open_clip_config.json and "
        "its weights (local-dir: may stand before it), or of such a JSON",
    )
    pretrained: str = field(
        "",
        "weights: an open_clip tag, the URI of a .safetensors or .pt file or of a folder, or random = drawn from seed; "
        "empty = those of the hub's repository, or those beside the JSON",
    )
    precision: Literal["fp32", "bf16"] = field(
        "fp32", "precision of the forward pass (autocast); bf16 is faster on a GPU and changes results"
    )
    quick_gelu: bool = field(
        False, "use QuickGELU: set it if the weights were trained with it and the name does not say so"
    )
    mean: list[float] = field([], "three means for normalising images; empty = those of the name or the tag")
    std: list[float] = field(
        [], "three standard deviations for normalising images; empty = those of the name or the tag"
    )
    last_k_layers: int = field(
        0,
        "attach gated blocks, with gates at zero, to this many last image blocks; 0 if the weights bring their own",
        ge=0,
    )
    gated: str = field("", "URI of a gated.safetensors to load on top of the weights; empty = none")


class OtherBackbone(BackboneConfig):
    """A model other than the recipe's backbone; its fields take effect only once it has a name."""

    name: str = field(
        "",
        "the model to customise, as in backbone.name; empty = the recipe's backbone, which also embeds and retrieves",
    )

    @model_validator(mode="after")
    def _is_named(self) -> Self:
        given = [
            name
            for name in self.model_fields_set - {"name"}
            if getattr(self, name) != type(self).model_fields[name].default
        ]
        if given and not self.name:
            raise ValueError(f"{', '.join(sorted(given))} of a model without a name; set its name too, or make it {{}}")
        return self


class EmbedConfig(Section):
    images: bool = field(True, "embed the images, which image keys and image queries search")
    captions: bool = field(True, "embed the captions, which text keys search and which serve as constants in training")
    precision: Literal["auto", "fp32", "bf16"] = field(
        "auto", "auto = bf16 where actors have a GPU (cluster.gpus_per_actor), otherwise backbone.precision"
    )
    heads: dict[str, str] = speed(
        {}, "column -> URI of a .safetensors with a linear head on the vectors; each writes a column of scores"
    )
    batch_size: int = speed(256, "rows per forward pass, halved when memory runs out; more rows need more memory", ge=1)
    compile: bool = speed(False, "compile the image tower with torch.compile: a minute at the start of each actor")

    @model_validator(mode="after")
    def _something_is_embedded(self) -> Self:
        if not (self.images or self.captions):
            raise ValueError("images and captions are both false: nothing would be embedded; set one to true")
        return self

    def of_images(self) -> EmbedConfig:
        """Returns the section for embedding images alone."""
        return self.model_copy(update={"images": True, "captions": False, "heads": {}})
