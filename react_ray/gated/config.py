"""CustomizeConfig: every constant of a training. It loads without torch."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import field_validator, model_validator
from typing_extensions import Self

from react_ray.clip.config import OtherBackbone
from react_ray.gated.augment_config import AugmentConfig
from react_ray.section import Section, field, speed

# As published. ViT-H-14 was not published; it has the number of L/14, whose blocks are the nearest.
LAST_K_LAYERS = {"ViT-B-32": 6, "ViT-B-16": 6, "ViT-L-14": 6, "ViT-H-14": 6, "ViT-bigG-14": 12}

OF_HEAD = "+head"  # ends the name of an arm's second stage, as "gated_image+head"
# Fields on which a second stage depends, and no model.
HEAD_ALONE = ("head", "head_grid", "head_lr", "head_steps", "head_views")
OF_LABELS = ("labelled", "labelled_shots", "labelled_share")
Method = Literal["gated-image", "locked-text", "locked-image", "full", "lora", "linear", "cache", "knn"]
ON_STORED_VECTORS: tuple[Method, ...] = ("linear", "cache", "knn")  # they run no model


class CustomizeConfig(Section):
    train_on: Literal["retrieved", "source"] = field(
        "retrieved", "train on the retrieved pairs, or on all of ingest.source (pre-training)"
    )
    method: Method = field(
        "gated-image",
        "what trains: gated blocks, the image tower, the text tower, everything, or low-rank updates of the image "
        "tower; without running a model: a linear head on the stored vectors, a cache of them (Tip-Adapter), or a vote "
        "of the nearest of them",
    )
    backbone: OtherBackbone = field(
        OtherBackbone(), "the model that is customised, if it is not the model that retrieved"
    )
    last_k_layers: int = field(
        0,
        "gated-image, lora: number of last image blocks that are customised; the cost is linear in it; 0 = as REACT "
        "published it for this backbone, half of the blocks for others",
        ge=0,
    )
    init: Literal["random", "copy"] = field(
        "random", "gated-image: start of the new blocks, PyTorch's default or a copy of the block behind them"
    )
    lora_rank: int = field(8, "lora: rank of the update of each matrix; parameters are linear in it", ge=1)
    lora_alpha: float = field(16.0, "lora: updates are multiplied by this / rank", gt=0)
    labelled: str = field(
        "",
        "labelled images of the recipe's classes, a URI as of evaluate.datasets: they train beside the retrieved "
        "pairs, and a second stage (head) trains on them alone; empty = none",
    )
    labelled_shots: int = field(
        0, "labelled: images of each class at most, drawn by the recipe's seed; 0 = all of them", ge=0
    )
    labelled_share: float = field(
        0.5,
        "labelled: share of a training's images that are labelled, as many of each class, repeated as often as that "
        "takes; 0 = only the second stage sees them, 1 = no retrieved pair trains",
        ge=0,
        le=1,
    )
    head: bool = field(
        False,
        "a second stage: a linear head of the recipe's classes on the image vectors of the trained model (of the "
        "backbone, with method=linear), started from the class prompts and scored beside them; it can be added to a "
        "model that is trained already",
    )
    head_grid: int = field(
        0,
        "head: it also sees the patch tokens before the last block, averaged over this many x as many cells of the "
        "image; 0 = the image vector alone",
        ge=0,
        le=32,
    )
    head_scale: float = field(100.0, "linear, cache, head: cosines are multiplied by this before the softmax", gt=0)
    head_lr: float = field(0.003, "head: peak learning rate of AdamW", gt=0)
    head_steps: int = field(1000, "head: steps for each task, with batches as in the training of the model", ge=1)
    head_views: int = field(1, "head: augmented views of each image that it trains on, besides the image itself", ge=0)
    cache_alpha: float = field(1.0, "cache: weight of the keys against the prompts; Tip-Adapter's", ge=0)
    cache_beta: float = field(5.5, "cache: how fast a key's influence falls with its distance; Tip-Adapter's", gt=0)
    knn_k: int = field(20, "knn: number of nearest pairs that vote", ge=1)
    knn_temperature: float = field(0.07, "knn: votes are exp(cosine / this)", gt=0)
    epochs: float = field(0.0, "passes over the training pairs; fractions are allowed; 0 = from the data: 32", ge=0)
    batch_size: int = field(
        0,
        "pairs per step over all workers; more are more negatives and more memory; 0 = from the data: about a 32nd of "
        "the pairs, 32 to 4096",
        ge=0,
    )
    lr: float = field(
        0.0,
        "peak learning rate; 0 = as REACT published: 5e-4, or 5e-5 where a tower's own weights train on retrieved "
        "pairs",
        ge=0,
    )
    gate_lr_scale: float = field(
        0.0,
        "factor of the learning rate of the gates; 0 = from the data: 1, or what lets the gates open in few steps, up "
        "to 10",
        ge=0,
    )
    weight_decay: float = field(0.1, "AdamW's weight decay, on matrices only", ge=0)
    beta1: float = field(0.9, "AdamW's beta1", ge=0, lt=1)
    beta2: float = field(0.98, "AdamW's beta2", ge=0, lt=1)
    eps: float = field(1e-6, "AdamW's epsilon", gt=0)
    warmup_steps: int = field(
        -1,
        "steps of linear warm-up; a cosine to zero follows; -1 = from the data: a tenth of the steps, at most 5000",
        ge=-1,
    )
    grad_clip: float = field(0.0, "largest norm of the gradient; 0 = off", ge=0)
    ema_decay: float = field(
        0.0, "decay of an exponential moving average of the weights, which becomes the model; 0 = off", ge=0, lt=1
    )
    mask_duplicate_captions: bool = field(False, "pairs with the same caption are no negatives of each other")
    pair_loss: float = field(1.0, "weight of the contrastive loss between images and their own captions", ge=0)
    class_loss: float = field(
        0.0,
        "weight of the cross entropy of an image against the prompts of the classes of each task, with all classes "
        "that it matched as its target",
        ge=0,
    )
    class_weight_power: float = field(
        0.0,
        "each pair weighs (pairs of its class) ** -this, 1 on average; 1 = all classes count equally",
        ge=0,
        le=1,
    )
    live_text: bool = field(
        False,
        "run the text tower in each step even if it is frozen; otherwise captions are the stored vectors, and the "
        "tower runs only if customize.backbone has another text tower than the model that made them",
    )
    max_undecodable: float = field(
        0.01, "share of images that may fail to decode and are replaced by others; beyond it the run stops", ge=0, le=1
    )
    precision: Literal["fp32", "bf16"] = field("fp32", "of autocast; weights and loss stay float32")
    augment: AugmentConfig = field(AugmentConfig(), "augmentation of training images")
    patch_dropout: float = field(0.0, "share of the image patches that a step leaves out; cheaper", ge=0, lt=1)
    every_caption: bool = field(
        False, "train_on=source: an image with n captions counts as n pairs; otherwise an epoch draws one of them"
    )
    streams: int = field(
        0,
        "places in the data from which each batch takes its pairs; more mix better, let more processes read their own "
        "pairs alone, and take more memory; 0 = as many as half a GB of images has room for, up to 256",
        ge=0,
    )
    watch_dataset: str = field(
        "",
        "a name in evaluate.datasets whose zero-shot score is measured while the model trains, by an actor beside it; "
        "empty = none",
    )
    watch_every_steps: int = field(
        500,
        "steps between these scores; the last step is always scored; others are left out if scoring is slower than "
        "training and keep=last",
        ge=1,
    )
    keep: Literal["last", "best"] = field(
        "last", "the weights that become the model: of the last step, or the best on watch_dataset"
    )
    save_dtype: Literal["fp32", "fp16"] = field("fp32", "dtype of the weights in the model's file")
    cache_gb: float = speed(
        2.0, "decoded images that each worker may keep between epochs, GB; 0 = decode in each epoch", ge=0
    )
    num_workers: int = speed(1, "data-parallel processes", ge=1)
    min_workers: int = speed(
        0, "elastic: the training goes on with this many workers while others are lost; 0 = always num_workers", ge=0
    )
    threads_per_worker: int = speed(1, "torch threads of each worker", ge=1)
    data_workers: int = speed(
        0,
        "processes per worker, on any node with CPUs, that read, decode and augment; 0 = a thread of the worker",
        ge=0,
    )
    cpus_per_worker: float = speed(1.0, "Ray CPUs that each worker reserves", ge=0)
    gpus_per_worker: float = speed(0.0, "GPUs of each worker", ge=0)
    micro_batch_size: int = speed(
        0,
        "images of a worker whose activations exist at once; the trained part then runs forward twice; 0 = all, once",
        ge=0,
    )
    activation_checkpointing: bool = speed(
        False, "keep one activation per block and recompute the others; less memory, slower"
    )
    compile: bool = speed(False, "torch.compile the image blocks; takes a minute at the start and a compiler")
    offload: bool = speed(False, "ZeRO 1 to 3: keep optimizer states, with 3 also parameters, in the host's memory")
    zero_stage: int = speed(
        0, "DeepSpeed ZeRO: 0 shards nothing, 1 optimizer states, 2 also gradients, 3 also parameters", ge=0, le=3
    )
    checkpoint_every_steps: int = speed(500, "steps between checkpoints, the most that a crash loses", ge=1)
    checkpoint_every_minutes: float = speed(0.0, "minutes between checkpoints, besides those by steps; 0 = off", ge=0)
    watch_gpus: float = speed(0.0, "GPUs of the actor that scores while training; 0 = it computes on CPUs", ge=0)
    trackers: list[Literal["wandb", "mlflow"]] = speed(
        [], "where metrics go besides files and TensorBoard; install the package yourself"
    )
    keep_last: int = speed(2, "number of checkpoints that are kept", ge=1)

    def digested(self) -> dict[str, Any]:
        """Without labelled images, what is made does not depend on how many of them there would be."""
        found = super().digested()
        return found if self.labelled else {name: value for name, value in found.items() if name not in OF_LABELS}

    def of_model(self) -> dict[str, Any]:
        """The digested fields on which the model depends, and not its second stage alone."""
        alone = HEAD_ALONE if self.mixes_labels else (*HEAD_ALONE, *OF_LABELS)
        return {name: value for name, value in self.digested().items() if name not in alone}

    @property
    def mixes_labels(self) -> bool:
        """True if labelled images train the model itself."""
        return bool(self.labelled) and self.labelled_share > 0

    @property
    def labelled_alone(self) -> bool:
        """True if labelled images are all that the model trains on."""
        return bool(self.labelled) and self.labelled_share == 1

    @field_validator("batch_size")
    @classmethod
    def _has_a_negative(cls, value: int) -> int:
        if value == 1:
            raise ValueError("a batch of one pair has nothing to tell it from; use 2 or more, or 0 = from the data")
        return value

    @model_validator(mode="after")
    def _heads_fit_the_stored_vectors(self) -> Self:
        if runs_no_model(self.method) and self.backbone.name:
            raise ValueError(
                f"method={self.method} reads the stored vectors, which are not {self.backbone.name}'s; choose another "
                "method, or make customize.backbone {}"
            )
        if not trains(self.method) and self.head:
            raise ValueError(
                f"method={self.method} trains nothing; use method=linear for a head on the backbone itself"
            )
        return self

    @model_validator(mode="after")
    def _labels_are_of_use(self) -> Self:
        if not self.labelled:
            return self
        if not trains(self.method):
            raise ValueError(
                f"method={self.method} compares with retrieved images and trains nothing that could learn from "
                "customize.labelled; use method=linear, or a method that trains a tower"
            )
        if self.train_on == "source":
            raise ValueError(
                "labelled images are mixed with retrieved pairs, and train_on=source has none; set train_on=retrieved"
            )
        if not (self.labelled_share or self.head):
            raise ValueError(
                "labelled_share=0 leaves customize.labelled to a second stage, which is off; set head=true, or a share"
            )
        return self


def last_k_layers(config: CustomizeConfig, name: str, num_blocks: int) -> int:
    """The number that config.last_k_layers stands for on the backbone of that name, whose image tower has num_blocks.

    Variants of a published backbone (ViT-L-14-336, ViT-B-32-quickgelu) have the number of that backbone.
    """
    published = (k for known, k in LAST_K_LAYERS.items() if f"{name}-".startswith(f"{known}-"))
    return config.last_k_layers or next(published, max(1, num_blocks // 2))


def runs_no_model(method: str) -> bool:
    """True for the methods that make a head of the stored vectors."""
    return method in ON_STORED_VECTORS


def trains(method: str) -> bool:
    """False for a cache and for nearest neighbours, which have no schedule."""
    return method not in ("cache", "knn")


def text_trains(method: Method) -> bool:
    """False if the features of captions are constants, which are computed once."""
    return method in ("locked-image", "full")


def needs_text_tower(config: CustomizeConfig) -> bool:
    """False if captions are the stored vectors of the retrieved set, so that the tower is not needed."""
    return config.live_text or text_trains(config.method) or config.train_on == "source"
