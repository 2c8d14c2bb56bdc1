"""OtherSets: the fields of `evaluate` that name sets for more than classification, and how these are scored.

None of them changes a prediction of a class; the artifacts of the other protocols digest what they depend on.
"""

from __future__ import annotations

from typing import Literal

from react_ray.evals.score import DETECTION, IMAGE_TEXT_RETRIEVAL, SEGMENTATION
from react_ray.section import Section, speed


class OtherSets(Section):
    captions: dict[str, str] = speed(
        {},
        "name -> URI of images with captions, for image-text retrieval: a dataset_*.json in Karpathy's layout (its "
        "split test, or that behind #), or what ingest reads, with one caption or a list of them per image",
    )
    segmentation: dict[str, str] = speed(
        {},
        "name of a task (or any name, if the recipe has one task) -> URI of a folder of images and masks as those of "
        "VOC, ADE20K or COCO-Stuff, with #split behind it if it has several",
    )
    detection: dict[str, str] = speed(
        {},
        "name of a task, or one that begins with it and a dot (any name, if the recipe has one task) -> URI of a JSON "
        "of COCO or LVIS with its images in a folder beside it",
    )
    proposals: dict[str, str] = speed(
        {},
        "name in evaluate.detection -> URI of a JSON of proposals (image_id, bbox, score) that are classified instead "
        "of the true boxes",
    )
    regions: Literal["crop", "roi_align"] = speed(
        "crop",
        "how a box gets its vector: crop embeds its pixels alone, roi_align averages the patch vectors of the image "
        "within it, one forward pass for all boxes",
    )
    dense_size: int = speed(
        0,
        "pixels per side to which segmentation, and detection by roi_align, resize an image, a multiple of the patch "
        "size; 0 = as the model was trained with",
        ge=0,
    )

    @property
    def other_sets(self) -> dict[str, dict[str, str]]:
        """Protocol -> name of a set -> URI."""
        return {IMAGE_TEXT_RETRIEVAL: self.captions, SEGMENTATION: self.segmentation, DETECTION: self.detection}
