"""TrainingStep: everything that a worker computes between the data and the optimizer, from a batch to its loss.

The backbone must have been frozen by `method.prepare`. A loss is a function of (seed, step, weights): random numbers
are drawn for the global batch, and each rank takes its rows.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from react_ray.clip.backbone import Backbone
from react_ray.clip.image_tower import draw_patches, image_blocks, image_features
from react_ray.clip.text import text_features
from react_ray.errors import TrainingDiverged
from react_ray.gated.config import CustomizeConfig, needs_text_tower, text_trains
from react_ray.gated.method import logit_bias
from react_ray.training.augment import augment_rows, draw
from react_ray.training.batches import Batch
from react_ray.training.class_loss import ClassTargets, class_loss, target_matrix
from react_ray.training.loss import contrastive_loss
from react_ray.training.siglip_loss import sigmoid_loss

NUM_NAMED = 10


class TrainingStep(nn.Module):
    """A module whose forward takes a batch and returns the loss."""

    def __init__(
        self,
        backbone: Backbone,
        config: CustomizeConfig,
        seed: int,
        rank: int = 0,
        classes: ClassTargets | None = None,
        class_weight_C: np.ndarray | None = None,
    ) -> None:
        """classes: what the class loss needs. class_weight_C: float32, the factor of the pairs of each class."""
        super().__init__()
        self.clip = backbone.model
        self._backbone, self._config, self._seed, self._rank = backbone, config, seed, rank
        self._classes = classes
        self._class_weight_C = None if class_weight_C is None else torch.from_numpy(class_weight_C)
        if config.activation_checkpointing:
            self.clip.visual.set_grad_checkpointing(True)  # type: ignore[union-attr,operator]
        if config.compile:
            for block in image_blocks(self.clip):
                block.compile()

    def forward(self, batch: Batch) -> Tensor:
        config, device = self._config, next(self.clip.parameters()).device
        generator = torch.Generator().manual_seed(mix(self._seed, batch.step))
        local = len(batch.captions)
        mine = slice(self._rank * local, (self._rank + 1) * local)
        draw_BK = draw(config.batch_size, generator)[mine]
        keep_BP = draw_patches(config.batch_size, self.clip, config.patch_dropout, generator)
        pixels = torch.from_numpy(batch.image_BCHW).to(device)  # uint8: a quarter of the bytes of float32
        if not config.augment.auto:  # otherwise it was done where the images were decoded
            pixels = augment_rows(pixels, draw_BK, config.augment)
        image_BCHW = self._backbone.normalize(pixels)
        with torch.autocast(device.type, torch.bfloat16, enabled=config.precision == "bf16"):
            keep_BP = None if keep_BP is None else keep_BP[mine].to(device)
            image_BD = image_features(self.clip, image_BCHW, keep_BP, config.micro_batch_size)
            text_BD = self._text(batch, device)
        class_id_B = torch.from_numpy(batch.class_id_B).to(device)
        logit_scale = self.clip.get_parameter("logit_scale")
        weight_B = self._weights(class_id_B)
        loss = image_BD.new_zeros((), dtype=torch.float32)
        if config.pair_loss:
            ids = torch.from_numpy(batch.caption_id_B).to(device) if config.mask_duplicate_captions else None
            bias = logit_bias(self.clip)
            if bias is None:
                pair_loss = contrastive_loss(image_BD, text_BD, logit_scale, caption_ids=ids, weights=weight_B)
            else:
                pair_loss = sigmoid_loss(image_BD, text_BD, logit_scale, bias, caption_ids=ids, weights=weight_B)
            loss = loss + config.pair_loss * pair_loss
        if config.class_loss:
            loss = loss + config.class_loss * self._class_loss(image_BD, logit_scale, batch, weight_B)
        return loss

    def _class_loss(self, image_BD: Tensor, logit_scale: Tensor, batch: Batch, weight_B: Tensor | None) -> Tensor:
        classes, device = self._classes, image_BD.device
        assert classes is not None, "the class loss needs the classes' vectors"
        class_CD, task_C = (torch.from_numpy(of).to(device) for of in (classes.vector_CD, classes.task_C))
        target_BC = torch.from_numpy(target_matrix(batch.class_id_B, batch.matched, classes.task_C)).to(device)
        return class_loss(image_BD, class_CD, task_C, logit_scale, target_BC, weight_B)

    def _weights(self, class_id_B: Tensor) -> Tensor | None:
        if self._class_weight_C is None:
            return None
        weight_B = self._class_weight_C.to(class_id_B.device)[class_id_B.clamp(min=0)]
        return torch.where(class_id_B >= 0, weight_B, 1.0)

    def _text(self, batch: Batch, device: torch.device) -> Tensor:
        """The stored unit vectors where the text tower is frozen and vectors exist; otherwise the tower runs."""
        if batch.text_BD is not None and not needs_text_tower(self._config):
            return torch.from_numpy(batch.text_BD).to(device)
        tokens = self._backbone.tokenizer(batch.captions).to(device)
        with torch.set_grad_enabled(text_trains(self._config.method) and torch.is_grad_enabled()):
            return text_features(self.clip, tokens)


def class_weights(class_ids: np.ndarray, num_classes: int, power: float) -> np.ndarray:
    """float32 [C]: (pairs of the class) ** -power, scaled to a mean of 1 over all pairs with a class (ids >= 0)."""
    count_C = np.bincount(class_ids[class_ids >= 0], minlength=num_classes).astype(np.float64)
    weight_C = np.where(count_C > 0, np.maximum(count_C, 1) ** -power, 1.0)
    total = (weight_C * count_C).sum()
    return (weight_C * (count_C.sum() / total if total else 1.0)).astype(np.float32)


def diverged(what: str, value: float, step: int, pair_ids: np.ndarray, listed: str, kept: str) -> TrainingDiverged:
    """pair_ids: of the global batch. listed: the file that lists all of them. kept: what is kept of the training."""
    named = ", ".join(map(str, pair_ids[:NUM_NAMED]))
    more = f" and {len(pair_ids) - NUM_NAMED} more" if len(pair_ids) > NUM_NAMED else ""
    return TrainingDiverged(
        f"the {what} of step {step} is {value}, of pairs {named}{more} (all are in {listed}); {kept}; lower "
        "customize.lr, set customize.grad_clip, or take those pairs out"
    )


def mix(*numbers: int) -> int:
    """Mixes several numbers into one seed."""
    seed = 0
    for number in numbers:
        seed = (seed * 1_000_003 + number + 0x9E3779B9) % (1 << 62)
    return seed
