"""Embedder: turns arrays of images and lists of texts into unit vectors.

Takes uint8 images [N, 3, H, W] of the model's size, or strings, and gives [N, D]. If the model's output for a row is
not finite or is the null vector, that row is all NaN, and the caller marks it. Several threads may call one Embedder:
while one of them copies its result back, another gives the device its next batch. On a CPU the rows of a batch are
shared among threads that compute each by itself: a layer of a small model is too short to be cut into pieces.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from functools import partial
from itertools import pairwise
from threading import Lock
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from react_ray.clip.backbone import Backbone
from react_ray.clip.image_tower import grid_dim, grid_features, image_features
from react_ray.clip.prompts import TargetTask, prompts
from react_ray.clip.text import can_truncate, text_features
from react_ray.pairs.image import decode_batch
from react_ray.row_guard import unforeseen

logger = logging.getLogger(__name__)
MOST_WORDS = 200_000  # about 40 MB of tokenizer cache
ROWS_PER_THREAD = 8  # at least: a forward pass over fewer rows is hardly shorter


class Embedder:
    def __init__(
        self,
        backbone: Backbone,
        batch_size: int,
        device: str | torch.device,
        compile: bool = False,
        grid: int = 0,
    ) -> None:
        """batch_size: rows per forward pass, of all threads together; it is halved whenever memory runs out, and stays
        at that. On a CPU there are as many threads as `torch.get_num_threads()` says.

        grid: image vectors also hold the patch tokens, averaged over grid x grid cells (`grid_features`); 0 = none.
        """
        self.backbone = backbone
        self.batch_size = batch_size
        self.device = torch.device(device)
        model = backbone.model.to(self.device).eval()
        self.image_dim = backbone.dim + grid_dim(model, grid)
        self._image_features: Callable[[Tensor], Tensor] = partial(image_features, model)
        if grid:
            self._image_features = partial(grid_features, model, grid=grid)
        if compile:
            self._image_features = torch.compile(self._image_features)
        self._on_cpu = self.device.type == "cpu"
        self._num_threads = torch.get_num_threads() if self._on_cpu and not compile else 1
        self._threads = ThreadPoolExecutor(self._num_threads, "embed", torch.set_num_threads, (1,))
        self._text_whole = not can_truncate(model)
        self._device_is_mine, self._tokenizer_is_mine = Lock(), Lock()
        self._first_words = dict(getattr(backbone.tokenizer, "cache", {}))

    def decode(self, images: Sequence[bytes | None], num_threads: int = 1) -> tuple[np.ndarray, list[str | None]]:
        """Runs decode_batch with the backbone's image size, crop and interpolation."""
        backbone = self.backbone
        return decode_batch(images, backbone.image_size, num_threads, backbone.crop, backbone.interpolation)

    def embed_images(self, images_NCHW: np.ndarray) -> np.ndarray:
        """uint8 [N, 3, S, S] -> float16 [N, image_dim], unit norm."""
        return self.image_vectors(images_NCHW).astype(np.float16)

    def embed_texts(self, texts: list[str]) -> np.ndarray:
        """[N] -> float16 [N, D], unit norm; each distinct text passes the model once."""
        return self.text_vectors(texts).astype(np.float16)

    def image_vectors(self, images_NCHW: np.ndarray) -> np.ndarray:
        """As `embed_images`, in float32: not yet rounded for storage."""
        out_ND = np.empty((len(images_NCHW), self.image_dim), np.float32)
        for rows in self.batches(len(images_NCHW)):
            pixels_BCHW = torch.from_numpy(np.ascontiguousarray(images_NCHW[rows]))
            self._run(out_ND, rows, partial(self._images, pixels_BCHW))
        return out_ND

    def text_vectors(self, texts: list[str]) -> np.ndarray:
        """As `embed_texts`, in float32."""
        distinct = list(dict.fromkeys(texts))
        out_ND = np.empty((len(distinct), self.backbone.dim), np.float32)
        if not distinct:
            return out_ND
        tokens_NT = self._tokenize(distinct)
        # Texts are sorted by length, so that a batch cut at its longest text holds little padding.
        length_N = torch.full((len(distinct),), tokens_NT.shape[1]) if self._text_whole else tokens_NT.argmax(dim=1) + 1
        order_N = torch.argsort(length_N, stable=True)
        tokens_NT, length_N = tokens_NT[order_N], length_N[order_N]
        sorted_ND = np.empty_like(out_ND)
        for rows in self.batches(len(distinct), length_N):
            length = int(length_N[rows][-1])
            self._run(sorted_ND, rows, partial(self._texts, tokens_NT[rows, :length]))
        out_ND[order_N.numpy()] = sorted_ND
        row_of = {text: row for row, text in enumerate(distinct)}
        return out_ND[[row_of[text] for text in texts]]

    def zero_shot_classifier(self, task: TargetTask) -> np.ndarray:
        """Returns float32 [C, D]: per class the normalised mean of its normalised prompts (CLIP, section 3.1.4).

        Classes of one name have one vector, bit for bit, so that the first of them is predicted.
        """
        found = prompts(task)
        distinct = {text: place for place, text in enumerate(dict.fromkeys(p.prompt for p in found))}
        text_ND = self.text_vectors(list(distinct))[[distinct[p.prompt] for p in found]]
        sums_CD = np.zeros((len(task.class_names), self.backbone.dim), np.float32)
        np.add.at(sums_CD, [p.class_id for p in found], text_ND)
        return sums_CD / np.linalg.norm(sums_CD, axis=1, keepdims=True)

    def batches(self, num_rows: int, length_N: Tensor | None = None) -> Iterator[slice]:
        """Yields the rows of each forward pass: batch_size rows, or more if texts are short, up to as many tokens."""
        start = 0
        while start < num_rows:
            stop = min(start + self.batch_size, num_rows)
            if length_N is not None:
                tokens = self.batch_size * self.backbone.context_length
                while stop < num_rows and int(length_N[stop]) * (stop + 1 - start) <= tokens:
                    stop += 1
            yield slice(start, stop)
            start = stop

    def _tokenize(self, texts: list[str]) -> Tensor:
        """Returns int64 [N, T] on the CPU, and bounds the tokenizer's cache, which would keep every word it has met."""
        tokenizer: Any = self.backbone.tokenizer
        with self._tokenizer_is_mine:
            if len(getattr(tokenizer, "cache", ())) > MOST_WORDS:
                tokenizer.cache = dict(self._first_words)
            return tokenizer(texts)

    def untokenizable(self, texts: set[str]) -> set[str]:
        """Returns those texts on which the tokenizer raises, by itself for each of them."""
        failing = set()
        for text in texts:
            try:
                self._tokenize([text])
            except Exception as error:
                unforeseen(error)
                failing.add(text)
        return failing

    def _images(self, pixels_BCHW: Tensor, rows: slice) -> Tensor:
        piece_BCHW = pixels_BCHW[rows]
        if self.device.type == "cuda":
            piece_BCHW = piece_BCHW.pin_memory()
        piece_BCHW = piece_BCHW.to(self.device, non_blocking=True)
        return self._image_features(self.backbone.normalize(piece_BCHW))

    def _texts(self, tokens_BT: Tensor, rows: slice) -> Tensor:
        piece_BT = tokens_BT[rows].to(self.device, non_blocking=True)
        return text_features(self.backbone.model, piece_BT, piece_BT.shape[1])

    def _run(self, out_ND: np.ndarray, rows: slice, forward: Callable[[slice], Tensor]) -> None:
        """Sets out_ND[rows] to the unit vectors of `forward`, which takes rows of the batch."""
        out_BD = out_ND[rows]
        num_pieces = max(1, min(self._num_threads, len(out_BD) // ROWS_PER_THREAD))
        if num_pieces == 1:
            with self._device_is_mine if self._on_cpu else nullcontext():
                self._run_piece(out_BD, slice(0, len(out_BD)), forward)
            return
        ends = [len(out_BD) * number // num_pieces for number in range(num_pieces + 1)]
        pieces = [slice(start, stop) for start, stop in pairwise(ends)]
        with self._device_is_mine:
            list(self._threads.map(lambda piece: self._run_piece(out_BD, piece, forward), pieces))

    def _run_piece(self, out_BD: np.ndarray, rows: slice, forward: Callable[[slice], Tensor]) -> None:
        """Halves the rows per pass until they fit into memory."""
        at_once, start = rows.stop - rows.start, rows.start
        while start < rows.stop:
            piece = slice(start, min(start + at_once, rows.stop))
            try:
                answer_BD = self._forward(forward, piece)
            except RuntimeError as error:  # CUDA raises a class of its own, the CPU a plain RuntimeError
                if not _is_out_of_memory(error) or at_once == 1:
                    raise
                at_once = (at_once + 1) // 2
                self.batch_size = (self.batch_size + 1) // 2
                logger.warning("out of memory: continuing with %d rows per forward pass", self.batch_size)
            else:
                out_BD[piece] = answer_BD.cpu().numpy()
                start = piece.stop
                continue
            if self.device.type == "cuda":  # after the handler, whose traceback holds the memory to be freed
                torch.cuda.empty_cache()

    def _forward(self, forward: Callable[[slice], Tensor], piece: slice) -> Tensor:
        mine = nullcontext() if self._on_cpu else self._device_is_mine
        with mine, torch.inference_mode(), self.backbone.autocast():
            return _unit(forward(piece))


def _is_out_of_memory(error: RuntimeError) -> bool:
    text = str(error)
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in text or "not enough memory" in text


def _unit(features_BD: Tensor) -> Tensor:
    """Returns float32 rows of length 1; a row that is not finite, or null, becomes all NaN."""
    features_BD = features_BD.float()
    norm_B1 = features_BD.norm(dim=-1, keepdim=True)
    unit_BD = F.normalize(features_BD, dim=-1)
    is_unit_B1 = torch.isfinite(norm_B1) & (norm_B1 > 1e-12) & torch.isfinite(unit_BD).all(dim=1, keepdim=True)
    return unit_BD.masked_fill(~is_unit_B1, torch.nan)
