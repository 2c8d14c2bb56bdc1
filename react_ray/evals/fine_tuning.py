"""Fine-tuning from few labels: the image tower, or a part of it, and a head that starts as the class prompts.

Takes a CLIP and the drawn images of one task, leaves the CLIP fine-tuned and gives the head. The training is WiSE-FT's
(arXiv 2109.01903; mlfoundations/wise-ft, src/models/finetune.py): AdamW, cosines times 100, the norm of the gradient at
most 1, a linear warm-up and a cosine to zero, and the last epoch counts. Here batches have 64 images, as the ELEVATER
toolkit's, and of few images there are more epochs, because ten of them would be ten steps. The classes of an image
that shows several of them share its target (arXiv 1805.00932), so that the classifier is a softmax, as the prompts are.
Next: stages/evaluating/fine_tune_runs.py.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from react_ray.clip.embedder import Embedder
from react_ray.clip.image_tower import image_blocks, image_features
from react_ray.errors import ConfigError, TrainingDiverged
from react_ray.evals.classify import embed_rows
from react_ray.evals.few_shot import FineTuning
from react_ray.evals.linear_probe import SCALE
from react_ray.evals.metrics import log_softmax
from react_ray.evals.shot_methods import Shots
from react_ray.evals.target import has_collapsed, hold_out, judged
from react_ray.gated.attach import NAME as GATED_BLOCK
from react_ray.gated.config import CustomizeConfig
from react_ray.training.batches import Batch, Batches
from react_ray.training.class_loss import class_loss, target_matrix
from react_ray.training.optim import make_optimizer, set_learning_rate
from react_ray.training.schedule import learning_rate

LEARNING_RATES = (3e-6, 1e-5, 3e-5, 1e-4, 3e-4)
OF_ONE_SHOT = 3e-5  # WiSE-FT's published rate
BATCH_SIZE = 64
EPOCHS = 10  # WiSE-FT's
LEAST_STEPS = 100
MOST_GRADIENT = 1.0


@dataclass(frozen=True)
class FineTuned:
    """A Scorer of the vectors that the fine-tuned tower makes: logits of the classes."""

    head_CD: np.ndarray  # float32, unit rows
    learning_rate: float
    collapsed: bool  # the drawn images are classified worse than by the prompts that training began from

    def __call__(self, image_ND: np.ndarray) -> np.ndarray:
        """Sums are taken in float64, so that the result does not depend on how images are batched."""
        return (SCALE * (image_ND.astype(np.float64) @ self.head_CD.astype(np.float64).T)).astype(np.float32)


def fine_tune(
    embedder: Embedder, method: FineTuning, images: list[bytes], shots: Shots, num_threads: int = 1
) -> FineTuned:
    """Chooses the learning rate on a part of the drawn images that is held out, then trains on all of them.

    The model of `embedder` is changed in place. images: encoded, one for each row of `shots`. num_threads: that decode.
    Of one image per class nothing can be held out: the rate is OF_ONE_SHOT then. ConfigError as of `trained_names`;
    TrainingDiverged if the final training ends in weights that are no numbers.
    """
    tuning = _Tuning(embedder, method, images, shots, num_threads)
    rate = tuning.choose_rate()
    head_CD = tuning.train(np.arange(len(images)), rate)
    scorer = FineTuned(head_CD, rate, collapsed=False)
    logits_NC = scorer(tuning.embed(np.arange(len(images))))
    if not np.isfinite(logits_NC).all():
        raise TrainingDiverged(
            f"{method} on {len(images)} images, with the learning rate {rate:g}, ends in weights that are no numbers; "
            "leave it out of evaluate.shot_methods"
        )
    before_NC = log_softmax(shots.image_ND.astype(np.float32) @ shots.text_CD.T)
    return FineTuned(head_CD, rate, has_collapsed(before_NC, log_softmax(logits_NC, scale=1), shots.target))


def trained_names(model: nn.Module, method: FineTuning) -> list[str]:
    """Names of the parameters that a method trains, in the order of the model; the text tower is frozen always.

    ConfigError if fine-tune-gated is asked for of a model without gated blocks; BackboneError if fine-tune-gated or
    fine-tune-last is asked for of an image tower that is no ViT of open_clip.
    """
    names = [name for name, _ in model.named_parameters() if name.startswith("visual.")]
    if method == "fine-tune-gated":
        names = [name for name in names if f".{GATED_BLOCK}." in name]
        if image_blocks(model) and not names:
            raise ConfigError(
                "evaluate.shot_methods: fine-tune-gated trains gated blocks, and this model has none; evaluate a model "
                "that customize.method=gated-image has made, or ask for fine-tune-last"
            )
    elif method == "fine-tune-last":
        last = f"visual.transformer.resblocks.{len(image_blocks(model)) - 1}."
        names = [name for name in names if name.startswith((last, "visual.ln_post.")) or name == "visual.proj"]
    return names


class _Tuning:
    """The trainings of one method on one draw, each of which begins at the same weights."""

    def __init__(
        self, embedder: Embedder, method: FineTuning, images: list[bytes], shots: Shots, num_threads: int
    ) -> None:
        self.embedder, self.images, self.shots, self.num_threads = embedder, images, shots, num_threads
        model, names = embedder.backbone.model, set(trained_names(embedder.backbone.model, method))
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name in names)
        self.start = {name: model.get_parameter(name).detach().clone() for name in names}

    def choose_rate(self) -> float:
        """The rate with the highest quality on the held-out images; of equal ones, with the least loss."""
        train, held = hold_out(self.shots.target)
        if not len(held):
            return OF_ONE_SHOT
        found = {rate: self._judge(self.train(train, rate), held) for rate in LEARNING_RATES}
        return max(found, key=lambda rate: found[rate])

    def train(self, rows: np.ndarray, rate: float) -> np.ndarray:
        """Trains on these of the drawn images from the start on; returns the head, float32 [C, D] with unit rows."""
        backbone, seed = self.embedder.backbone, self.shots.seed
        with torch.no_grad():
            for name, value in self.start.items():
                backbone.model.get_parameter(name).copy_(value)
        batches = Batches(
            _Drawn([self.images[row] for row in rows], self.shots.target[rows]),
            batch_size=min(BATCH_SIZE, len(rows)),
            image_size=backbone.image_size,
            seed=seed,
            num_threads=self.num_threads,
            crop=backbone.crop,
            interpolation=backbone.interpolation,
        )
        steps = max(EPOCHS, math.ceil(LEAST_STEPS / batches.steps_per_epoch)) * batches.steps_per_epoch
        config = CustomizeConfig(lr=rate, gate_lr_scale=1, warmup_steps=steps // 10, method="full")
        classifier = _Classifier(self.embedder, self.shots.text_CD)
        optimizer = make_optimizer(classifier, config)
        for batch in batches.iterate(0, steps):
            set_learning_rate(optimizer, learning_rate(batch.step, steps, config))
            optimizer.zero_grad()
            classifier(batch).backward()
            nn.utils.clip_grad_norm_([p for p in classifier.parameters() if p.requires_grad], MOST_GRADIENT)
            optimizer.step()
        return F.normalize(classifier.head_CD.detach().float(), dim=-1).cpu().numpy()

    def embed(self, rows: np.ndarray) -> np.ndarray:
        return embed_rows([self.images[row] for row in rows], self.embedder, self.num_threads)

    def _judge(self, head_CD: np.ndarray, rows: np.ndarray) -> tuple[float, float]:
        """As `judged`; a training that ended in no numbers is worse than all others."""
        logits_NC = FineTuned(head_CD, 0.0, collapsed=False)(self.embed(rows))
        return judged(log_softmax(logits_NC, scale=1), self.shots.target[rows])


class _Classifier(nn.Module):
    """Gives the loss of a batch."""

    def __init__(self, embedder: Embedder, text_CD: np.ndarray) -> None:
        super().__init__()
        self.backbone, self.clip, self.device = embedder.backbone, embedder.backbone.model, embedder.device
        self.head_CD = nn.Parameter(torch.from_numpy(text_CD.astype(np.float32)).to(self.device))
        self.scale = torch.tensor(math.log(SCALE), device=self.device)
        self.task_C = np.zeros(len(text_CD), np.int64)

    def forward(self, batch: Batch) -> Tensor:
        with self.backbone.autocast():
            image_BD = image_features(self.clip, self.backbone.normalize(torch.from_numpy(batch.image_BCHW)))
        target_BC = torch.from_numpy(target_matrix(batch.class_id_B, batch.matched, self.task_C)).to(self.device)
        task_C = torch.from_numpy(self.task_C).to(self.device)
        return class_loss(image_BD, self.head_CD, task_C, self.scale, target_BC)


class _Drawn:
    """The drawn images as one block of training rows; as `training.blocks.Rows`."""

    def __init__(self, images: list[bytes], target: np.ndarray) -> None:
        self.images = images
        self.classes = [np.flatnonzero(one) if target.ndim == 2 else [one] for one in target]
        self.block_sizes, self.block_bytes = [len(images)], [sum(map(len, images))]

    def read(self, _: int) -> pa.Table:
        captions: list[list[str]] = [[]] * len(self.images)
        return pa.table(
            {
                "image": pa.array(self.images, pa.binary()),
                "captions": pa.array(captions, pa.list_(pa.string())),
                "matched": pa.array(
                    [[(label, 1.0) for label in of] for of in self.classes], pa.map_(pa.int32(), pa.float32())
                ),
            }
        )
