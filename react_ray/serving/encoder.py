"""Encoder: texts and images as unit vectors, once for all requests of a moment; vectors of texts are remembered."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import Executor, ThreadPoolExecutor

import numpy as np

from react_ray.index.blas_threads import one_thread_each
from react_ray.search.query_model import QueryModel
from react_ray.serving.batches import Batches
from react_ray.serving.lru import Lru

TEXTS_AT_ONCE, IMAGES_AT_ONCE = 64, 16
REMEMBERED_BYTES = 1 << 27  # 100,000 texts with vectors of 512 dimensions
TEXT_BYTES = 320  # that a text takes besides its vector


class Encoder:
    def __init__(self, model: QueryModel, threads: Executor, num_cpus: int) -> None:
        """threads: decode images. Texts and images have threads of their own: texts do not wait until the model for
        images is loaded. num_cpus: of which texts take half, so that one request's classes do not take all."""
        self.model, self._threads = model, threads
        calls_at_once = max(1, num_cpus // 2)
        self.texts_at_once = TEXTS_AT_ONCE * calls_at_once
        self._of_texts = ThreadPoolExecutor(calls_at_once, "texts")
        self._of_images = ThreadPoolExecutor(1, "images")
        self._texts = Batches(self._embed_texts, self._of_texts, TEXTS_AT_ONCE, calls_at_once)
        self._images = Batches(self._embed_images, self._of_images, IMAGES_AT_ONCE)
        self._known: Lru[str, np.ndarray] = Lru(REMEMBERED_BYTES, lambda vector_D: vector_D.nbytes + TEXT_BYTES)

    async def texts(self, texts: Sequence[str]) -> np.ndarray:
        """float16 [N, D], unit norm."""
        distinct = list(dict.fromkeys(texts))
        found = {text: vector_D for text in distinct if (vector_D := self._known.peek(text)) is not None}
        missing = [text for text in distinct if text not in found]
        for start in range(0, len(missing), self.texts_at_once):  # a request that is given up stops here
            some = missing[start : start + self.texts_at_once]
            for text, vector_D in zip(some, await self._texts.ask(some), strict=True):
                found[text] = vector_D
                self._known.put(text, vector_D)
        return np.stack([found[text] for text in texts])

    async def images(self, images: Sequence[bytes]) -> np.ndarray:
        """float16 [N, D], unit norm, of encoded images. ConfigError if one cannot be decoded."""
        loop = asyncio.get_running_loop()
        await self.warm_images()
        pixels_NCHW = await loop.run_in_executor(self._threads, self.model.decode, images)
        return np.stack(await self._images.ask(list(pixels_NCHW)))

    async def warm_images(self) -> None:
        """Loads the whole model, which takes seconds, before a first image asks for it."""
        await asyncio.get_running_loop().run_in_executor(self._of_images, self.model.load)

    def _embed_texts(self, texts: list[str]) -> list[np.ndarray]:
        with one_thread_each():  # a sentence is a chain of small products
            return list(self.model.embed_texts(texts))

    def _embed_images(self, pixels: list[np.ndarray]) -> list[np.ndarray]:
        return list(self.model.embed_pixels(np.stack(pixels)))

    def close(self) -> None:
        for threads in (self._of_texts, self._of_images):
            threads.shutdown(wait=False, cancel_futures=True)
