"""Embedder: arrays of images and lists of texts in, unit float16 vectors out.

Takes uint8 images [N, 3, H, W] of the model's size and strings, gives [N, D]; a row that the model answers with anything
not finite is all NaN, for the caller to mark. Next: index/, which searches the vectors.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from react_ray.clip.backbone import Backbone
from react_ray.clip.prompts import TargetTask, prompts
from react_ray.clip.text import text_features
from react_ray.gated.attach import image_features


class Embedder:
    def __init__(self, backbone: Backbone, batch_size: int, device: str | torch.device) -> None:
        self.backbone = backbone
        self.batch_size = batch_size
        self.device = torch.device(device)
        backbone.model.to(self.device).eval()

    @torch.inference_mode()
    def embed_images(self, images_NCHW: np.ndarray) -> np.ndarray:
        """uint8 [N, 3, S, S] -> float16 [N, D], unit norm."""
        out_ND = np.empty((len(images_NCHW), self.backbone.dim), np.float16)
        for start in range(0, len(images_NCHW), self.batch_size):
            rows = slice(start, start + self.batch_size)
            x_BCHW = self.backbone.normalize(torch.from_numpy(np.ascontiguousarray(images_NCHW[rows])))
            with self.backbone.autocast():
                out_ND[rows] = _unit(image_features(self.backbone.model, x_BCHW)).half().cpu().numpy()
        return out_ND

    def embed_texts(self, texts: list[str]) -> np.ndarray:
        """[N] -> float16 [N, D], unit norm; each distinct text passes the model once."""
        return self._texts(texts).astype(np.float16)

    def zero_shot_classifier(self, task: TargetTask) -> np.ndarray:
        """float32 [C, D], unit norm: per class the mean of its normalised prompts, normalised (CLIP, section 3.1.4)."""
        found = prompts(task)
        text_ND = self._texts([p.prompt for p in found])
        sums_CD = np.zeros((len(task.class_names), self.backbone.dim), np.float32)
        np.add.at(sums_CD, [p.class_id for p in found], text_ND)
        return sums_CD / np.linalg.norm(sums_CD, axis=1, keepdims=True)

    @torch.inference_mode()
    def _texts(self, texts: list[str]) -> np.ndarray:
        """float32 [N, D]. Batches are of similar length, so that little is spent on padding."""
        distinct = list(dict.fromkeys(texts))
        out_ND = np.empty((len(distinct), self.backbone.dim), np.float32)
        if not distinct:
            return out_ND
        tokens_NT = self.backbone.tokenizer(distinct)
        order = torch.argsort((tokens_NT != 0).sum(1), stable=True)
        for rows in order.split(self.batch_size):
            with self.backbone.autocast():
                features_BD = text_features(self.backbone.model, tokens_NT[rows].to(self.device))
            out_ND[rows.numpy()] = _unit(features_BD).cpu().numpy()
        row_of = {text: row for row, text in enumerate(distinct)}
        return out_ND[[row_of[text] for text in texts]]


def _unit(features_BD: Tensor) -> Tensor:
    """float32 rows of length 1; NaN in all of a row that is not finite."""
    unit_BD = F.normalize(features_BD.float(), dim=-1)
    return unit_BD.masked_fill(~torch.isfinite(unit_BD).all(dim=1, keepdim=True), torch.nan)
