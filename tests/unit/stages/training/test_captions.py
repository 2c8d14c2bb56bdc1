"""Which captions a training of another backbone can use."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from react_ray.artifact import Artifact
from react_ray.draft import create
from react_ray.errors import ArtifactMismatch
from react_ray.gated.config import CustomizeConfig
from react_ray.kinds import RETRIEVED, RetrievedFacts
from react_ray.stages.training.captions import told_of_backbone, with_captions

ENCODER = {"name": "ViT-B-32", "tag": "openai", "dim": 512, "text_sha256": "a"}
LARGE = {"name": "ViT-L-14", "tag": "openai", "dim": 768, "text_sha256": "b"}


@pytest.fixture
def retrieved(tmp_path: Path) -> Artifact:
    artifact = create(str(tmp_path / "retrieved"), RETRIEVED, {}, {}, 0)
    return artifact.seal(RetrievedFacts(ENCODER, 8, []))


def config(**changes: Any) -> CustomizeConfig:
    return CustomizeConfig.model_validate({"backbone": {"name": "ViT-L-14", "pretrained": "openai"}} | changes)


def test_the_text_tower_of_a_named_backbone_runs_only_where_no_vectors_are_its_own(retrieved: Artifact) -> None:
    assert with_captions(config(), retrieved, LARGE).live_text
    assert with_captions(config(), retrieved, LARGE | {"text_sha256": "a"}) == config()  # another image tower alone
    assert with_captions(config(), retrieved, LARGE | {"text_sha256": "a"}, has_vectors=False).live_text
    assert with_captions(CustomizeConfig(), retrieved, ENCODER) == CustomizeConfig()


def test_stored_captions_of_another_text_tower_are_refused(retrieved: Artifact) -> None:
    with pytest.raises(
        ArtifactMismatch,
        match=r"another text tower \(.*text_sha256 a there, b here\); set customize.live_text=true, or embed",
    ):
        with_captions(CustomizeConfig(), retrieved, LARGE)  # the recipe's own backbone has changed


def test_where_captions_come_from_is_said_of_a_named_backbone(retrieved: Artifact) -> None:
    assert (
        told_of_backbone(with_captions(config(), retrieved, LARGE))
        == "customises ViT-L-14: its text tower runs in each step"
    )
    assert "captions are the stored vectors" in told_of_backbone(with_captions(config(), retrieved, ENCODER))
    assert told_of_backbone(CustomizeConfig()) == ""
