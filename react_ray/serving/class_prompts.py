"""The prompts of a class list as vectors, by as many templates as there is time for.

1,000 classes with 80 templates are 80,000 sentences, which take longer to embed than a request may.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from react_ray.clip.prompts import TargetTask, prompts
from react_ray.clip.queries import Query, task_queries
from react_ray.serving.encoder import Encoder


async def vectors_in_time(
    encoder: Encoder, tasks: list[TargetTask], stored: Mapping[str, np.ndarray], is_late: Callable[[], bool]
) -> tuple[list[TargetTask], dict[str, np.ndarray]]:
    """Returns the tasks by the first of their templates, those after which it `is_late` only where they are stored, and
    the vectors of their prompts, float16 [D]. At least one template is taken."""
    step = math.ceil(encoder.texts_at_once / sum(len(names) for task in tasks for names in task.synonyms))
    vectors: dict[str, np.ndarray] = {}
    most = most_templates(tasks)
    for used in range(0, most, step):
        some = [replace(task, templates=task.templates[used : used + step]) for task in tasks]
        texts = [prompt.prompt for task in some for prompt in prompts(task)]
        missing = [text for text in texts if text not in stored]
        if used and missing and is_late():
            return fewer_templates(tasks, used), vectors
        vectors |= {text: stored[text] for text in texts if text in stored}
        await asyncio.sleep(0)  # other requests go on, also where all is known
        if missing:
            vectors |= zip(missing, await encoder.texts(missing), strict=True)
    return tasks, vectors


def most_templates(tasks: Sequence[TargetTask]) -> int:
    return max(len(task.templates) for task in tasks)


def fewer_templates(tasks: Sequence[TargetTask], most: int) -> list[TargetTask]:
    return [replace(task, templates=task.templates[:most]) for task in tasks]


def class_queries(
    tasks: list[TargetTask], averaged: bool, vectors: Mapping[str, np.ndarray]
) -> tuple[list[Query], np.ndarray]:
    """vectors: of all prompts. Returns the queries, ordered by class, and their vectors, float32 [Q, D], rounded to
    float16 as a retrieval stores them: of a prompt, or the mean of those of a class, of length 1."""
    queries = task_queries(tasks, averaged)
    texts_PD = np.stack([vectors[text] for query in queries for text in query.parts]).astype(np.float32)
    if len(texts_PD) == len(queries):
        return queries, texts_PD
    starts = np.cumsum([0, *(len(query.parts) for query in queries)])[:-1]
    mean_QD = np.add.reduceat(texts_PD, starts, axis=0)
    mean_QD /= np.linalg.norm(mean_QD, axis=1, keepdims=True)
    return queries, mean_QD.astype(np.float16).astype(np.float32)
