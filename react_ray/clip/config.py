"""BackboneConfig and EmbedConfig, without torch: a recipe is read in a moment. Next: backbone.py."""

from __future__ import annotations

from typing import Literal

from pydantic import model_validator
from typing_extensions import Self

from react_ray.section import Section, field, speed


class BackboneConfig(Section):
    name: str = field("ViT-B-32", "open_clip model name, hf-hub:org/repo, or URI of a JSON like open_clip_config.json")
    pretrained: str = field(
        "", "open_clip tag, or URI of .safetensors / .pt weights; empty = random weights of the seed"
    )
    precision: Literal["fp32", "bf16"] = field(
        "fp32", "autocast of the forward pass; bf16 is faster and changes results"
    )
    quick_gelu: bool = field(False, "QuickGELU whatever the name says: for weights that were trained with it")
    mean: list[float] = field([], "normalisation of images, three numbers; empty = what the name or tag says")
    std: list[float] = field([], "as mean")
    last_k_layers: int = field(
        0, "attach this many gated blocks, gates at zero; weights that have their own need 0", ge=0
    )
    gated: str = field("", "URI of a gated.safetensors to load on top; empty = none")


class OtherBackbone(BackboneConfig):
    """A model beside the recipe's: nothing of it holds until it is named."""

    name: str = field(
        "", "as backbone.name: the model that is customised; empty = the recipe's backbone, which embeds and retrieves"
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
    images: bool = field(True, "embed the images: keys for text-to-image retrieval")
    captions: bool = field(True, "embed the captions: keys for text-to-text retrieval, and constants of the training")
    precision: Literal["auto", "fp32", "bf16"] = field(
        "auto", "auto: bf16 where actors have a GPU (cluster.gpus_per_actor), else backbone.precision"
    )
    heads: dict[str, str] = speed(
        {},
        "column -> URI of a .safetensors with a linear head on the vectors (see clip/heads.py); its bytes are digested",
    )
    batch_size: int = speed(256, "rows per forward pass, halved when memory runs out; larger needs more memory", ge=1)
    parts_per_actor: int = speed(
        2, "parts at a time of each actor that has a GPU: one is decoded while the other is there; more memory", ge=1
    )
    compile: bool = speed(False, "torch.compile the image tower: a minute at the start, faster on a GPU")
    channels_last: bool = speed(False, "channels-last memory of image towers: faster for convolutions on a GPU")

    @model_validator(mode="after")
    def _something_is_embedded(self) -> Self:
        if not (self.images or self.captions):
            raise ValueError("images and captions are both false: nothing would be embedded; set one to true")
        return self
