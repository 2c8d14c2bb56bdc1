"""CustomizeConfig and AugmentConfig: every constant of a training, without torch. Next: method.py."""

from __future__ import annotations

from typing import Literal

from pydantic import model_validator
from typing_extensions import Self

from react_ray.clip.config import OtherBackbone
from react_ray.section import Section, field, speed

# As published; ViT-H-14 was not: as L/14, whose blocks are the nearest.
LAST_K_LAYERS = {"ViT-B-32": 6, "ViT-B-16": 6, "ViT-L-14": 6, "ViT-H-14": 6, "ViT-bigG-14": 12}

Method = Literal["gated-image", "locked-text", "locked-image", "full", "lora", "linear"]


class AugmentConfig(Section):
    """Everything is off at its default. With `auto`, timm does it on whole images, and takes only flip, crop_* and erase."""

    auto: str = field(
        "", "timm's automatic augmentation, rand-m9-mstd0.5-inc1 in REACT; its crops are of the whole image"
    )
    rotate_deg: float = field(0.0, "rotation is uniform in +- this many degrees", ge=0, le=180)
    scale: float = field(0.0, "size is multiplied by 2 to the power of +- this", ge=0, le=2)
    stretch: float = field(0.0, "aspect ratio is multiplied by 2 to the power of +- this", ge=0, le=2)
    translate: float = field(0.0, "shift is uniform in +- this share of the side, per axis", ge=0, le=1)
    shear: float = field(0.0, "shear is uniform in +- this share of the side", ge=0, le=1)
    flip: float = field(0.0, "probability of a horizontal flip", ge=0, le=1)
    crop_area: float = field(1.0, "random resized crop: least share of the area that is kept; 1 = off", gt=0, le=1)
    crop_ratio: float = field(1.0, "random resized crop: largest aspect ratio, 4/3 say; 1 = square", ge=1)
    brightness: float = field(0.0, "offset uniform in +- this share of white", ge=0, le=1)
    contrast: float = field(0.0, "gain uniform in 1 +- this, around the middle grey", ge=0, le=1)
    color: float = field(0.0, "gain in 1 +- this and offset in +- half of this, for each channel alone", ge=0, le=1)
    saturation: float = field(0.0, "gain uniform in 1 +- this, around the grey of the pixel", ge=0, le=1)
    grey: float = field(0.0, "probability of no colour at all", ge=0, le=1)
    erase: float = field(
        0.0, "probability that a rectangle, 2 to 33 % of the area, is made grey (auto: noise)", ge=0, le=1
    )


class CustomizeConfig(Section):
    train_on: Literal["retrieved", "source"] = field(
        "retrieved", "the retrieved pairs, or (pre-training) the whole of ingest.source as it is"
    )
    method: Method = field(
        "gated-image",
        "what trains: gated blocks, image tower, text tower, everything, low-rank updates, or a head on stored vectors",
    )
    backbone: OtherBackbone = field(
        OtherBackbone(), "the model that is customised, where it is not the one that retrieved"
    )
    last_k_layers: int = field(
        0,
        "gated-image, lora: how many of the last image blocks get what trains; cost is linear; 0 = as REACT published it for "
        "this backbone, half of the blocks for others",
        ge=0,
    )
    init: Literal["random", "copy"] = field(
        "random", "gated-image: start of the new blocks, PyTorch's default or their host"
    )
    lora_rank: int = field(8, "lora: rank of the update of each matrix; parameters are linear in it", ge=1)
    lora_alpha: float = field(16.0, "lora: updates are multiplied by this / rank", gt=0)
    head_scale: float = field(100.0, "linear: cosines are multiplied by this before the softmax", gt=0)
    epochs: float = field(32.0, "passes over the training pairs; fractions are allowed", gt=0)
    batch_size: int = field(4096, "pairs per step over all workers; more negatives, more memory", ge=2)
    lr: float = field(5e-4, "peak learning rate; about 5e-5 for locked-text", gt=0)
    gate_lr_scale: float = field(1.0, "the gates learn this many times faster", gt=0)
    weight_decay: float = field(0.1, "AdamW's, on matrices only", ge=0)
    beta1: float = field(0.9, "AdamW's", ge=0, lt=1)
    beta2: float = field(0.98, "AdamW's", ge=0, lt=1)
    eps: float = field(1e-6, "AdamW's", gt=0)
    warmup_steps: int = field(5000, "steps of linear warm-up, then cosine to zero", ge=0)
    grad_clip: float = field(0.0, "largest norm of the gradient; 0 = off", ge=0)
    ema_decay: float = field(0.0, "exponential moving average of what trains, saved in its stead; 0 = off", ge=0, lt=1)
    mask_duplicate_captions: bool = field(False, "pairs with the same caption are no negatives of each other")
    pair_loss: float = field(1.0, "weight of the contrastive loss between images and their own captions", ge=0)
    class_loss: float = field(
        0.0,
        "weight of the cross entropy of an image against the prompts of all classes, its retrieved class as target",
        ge=0,
    )
    class_weight_power: float = field(
        0.0,
        "a pair's terms weigh (pairs of its class) ** -this, 1 in the mean; 1 = all classes count equally",
        ge=0,
        le=1,
    )
    live_text: bool = field(
        False,
        "run the text tower in each step even where it is frozen; else captions are the retrieved set's vectors, and it runs only "
        "where customize.backbone has another text tower than the model that made them",
    )
    max_undecodable: float = field(
        0.01, "share of images that may fail to decode: others take their place; the run stops beyond it", ge=0, le=1
    )
    precision: Literal["fp32", "bf16"] = field("fp32", "autocast; weights and loss stay float32")
    augment: AugmentConfig = field(AugmentConfig(), "augmentation of training images")
    patch_dropout: float = field(0.0, "share of the image patches that a step does not look at; cheaper", ge=0, lt=1)
    every_caption: bool = field(
        False, "train_on=source: an image with n captions counts as n pairs; else one of them is drawn per epoch"
    )
    window_parts: int = field(
        0,
        "parts whose rows are shuffled together; more memory, better mixing; 0 = as many as hold half a GB of images",
        ge=0,
    )
    watch_dataset: str = field(
        "",
        "name in evaluate.datasets whose zero-shot score is taken while training, by an actor beside it; empty = none",
    )
    watch_every_steps: int = field(
        500,
        "steps between such scores; the last step is always scored, others are left out where scoring is slower and keep=last",
        ge=1,
    )
    keep: Literal["last", "best"] = field(
        "last", "which weights become the model: of the last step, or the best on watch_dataset"
    )
    save_dtype: Literal["fp32", "fp16"] = field("fp32", "of the weights in the model's file")
    cache_gb: float = speed(2.0, "decoded images that each worker keeps between epochs, GB; 0 = decode each time", ge=0)
    num_workers: int = speed(1, "data-parallel processes", ge=1)
    min_workers: int = speed(
        0, "elastic: a training goes on with so many while others are lost; 0 = always num_workers", ge=0
    )
    threads_per_worker: int = speed(1, "torch threads of each", ge=1)
    data_workers: int = speed(
        0,
        "processes beside each worker, on any CPU node, that read, decode and augment; 0 = a thread of the worker",
        ge=0,
    )
    cpus_per_worker: float = speed(1.0, "Ray CPUs that each reserves", ge=0)
    gpus_per_worker: float = speed(0.0, "GPUs of each", ge=0)
    micro_batch_size: int = speed(
        0,
        "images of a worker whose activations exist at once, what trains then runs forward twice; 0 = all, once",
        ge=0,
    )
    activation_checkpointing: bool = speed(
        False, "keep one activation per block and compute the rest again; less memory"
    )
    compile: bool = speed(False, "torch.compile the image blocks: a minute at the start, needs a compiler")
    offload: bool = speed(False, "ZeRO 1 to 3: optimizer states, and with 3 parameters, in the memory of the host")
    zero_stage: int = speed(
        0, "DeepSpeed ZeRO: 0 nothing, 1 optimizer, 2 + gradients, 3 + parameters are sharded", ge=0, le=3
    )
    checkpoint_every_steps: int = speed(500, "steps between checkpoints; a crash loses at most these", ge=1)
    checkpoint_every_minutes: float = speed(0.0, "minutes between checkpoints, beside those by steps; 0 = off", ge=0)
    watch_gpus: float = speed(0.0, "GPUs of the actor that scores while training; 0 = it computes on CPUs", ge=0)
    trackers: list[Literal["wandb", "mlflow"]] = speed(
        [], "where the metrics go besides files and TensorBoard; each is installed by hand"
    )
    keep_last: int = speed(2, "checkpoints that are kept", ge=1)

    @model_validator(mode="after")
    def _a_head_is_of_what_embedded(self) -> Self:
        if self.method == "linear" and self.backbone.name:
            raise ValueError(
                f"method=linear trains on the stored vectors, which are not {self.backbone.name}'s; choose another method, or "
                "make customize.backbone {}"
            )
        return self


def last_k_layers(config: CustomizeConfig, name: str, num_blocks: int) -> int:
    """What config.last_k_layers stands for on the backbone of that name, whose image tower has num_blocks.

    Variants of a published backbone (ViT-L-14-336, ViT-B-32-quickgelu) have its number.
    """
    published = (k for known, k in LAST_K_LAYERS.items() if f"{name}-".startswith(f"{known}-"))
    return config.last_k_layers or next(published, max(1, num_blocks // 2))


def text_trains(method: Method) -> bool:
    """False where the captions' features are constants that are computed once."""
    return method in ("locked-image", "full")


def needs_text_tower(config: CustomizeConfig) -> bool:
    """False where captions are the retrieved set's vectors, so that the tower need not be there."""
    return config.live_text or text_trains(config.method) or config.train_on == "source"
