from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

import open_clip
import pytest
import torch
from torch import nn

from react_ray.clip.attention import SelfAttention, use_self_attention
from tests.support.tiny_clip import tiny_backbone


def twins() -> tuple[nn.MultiheadAttention, nn.MultiheadAttention]:
    torch.manual_seed(0)
    theirs = nn.MultiheadAttention(16, 4, batch_first=True)
    ours = nn.MultiheadAttention(16, 4, batch_first=True)
    ours.load_state_dict(theirs.state_dict())
    use_self_attention(ours)
    assert isinstance(ours, SelfAttention) and ours.state_dict().keys() == theirs.state_dict().keys()
    return theirs, ours


@pytest.mark.parametrize(
    "mask", [None, torch.full((5, 5), -torch.inf).triu(1), torch.zeros(12, 5, 5).index_fill(2, torch.tensor(3), -9.0)]
)
def test_output_and_gradients_are_those_of_torch(mask: torch.Tensor | None) -> None:
    results = []
    for attention in twins():
        x = torch.randn(3, 5, 16, generator=torch.Generator().manual_seed(1)).requires_grad_()
        y = attention(x, x, x, need_weights=False, attn_mask=mask)[0]
        results.append([y, *torch.autograd.grad(y.square().sum(), [x, *attention.parameters()])])
    for theirs, ours in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-5)


def test_everything_else_is_left_to_torch() -> None:
    theirs, ours = twins()
    x, other = torch.randn(3, 5, 16), torch.randn(3, 2, 16)
    for args, kwargs in (
        ((other, x, x), {"need_weights": False}),
        ((x, x, x), {}),
        ((x, x, x), {"key_padding_mask": torch.eye(3, 5).bool()}),
    ):
        for a, b in zip(theirs(*args, **kwargs), ours(*args, **kwargs), strict=True):
            assert (a is None and b is None) or torch.equal(a, b)


def test_both_towers_of_open_clips_own_models_get_it(tmp_path: Path) -> None:
    model = tiny_backbone(tmp_path, vocab_size=8, last_k_layers=1).model
    found = {name: type(module) for name, module in model.named_modules() if isinstance(module, nn.MultiheadAttention)}
    assert set(found.values()) == {SelfAttention} and len(found) == 6
    assert sum(name.startswith("visual.") for name in found) == 4  # three blocks and a gated one; two are the text's
    assert (
        use_self_attention(open_clip.CLIP(16, {"layers": 3, "width": 64}, {"layers": 2, "heads": 2, "width": 64})) == 5
    )


class OtherAttention(nn.Module):
    """Attention as open_clip 4 has it: a class of its own with the same parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.in_proj_weight = nn.Parameter(torch.zeros(48, 16))


def test_a_model_whose_attention_is_another_class_is_warned_about_once(caplog: pytest.LogCaptureFixture) -> None:
    model = nn.Sequential(OtherAttention(), OtherAttention())
    assert [use_self_attention(model), use_self_attention(model)] == [0, 0]
    (record,) = caplog.records
    assert record.levelname == "WARNING" and "OtherAttention" in record.message
    assert f"open_clip_torch {version('open_clip_torch')}" in record.message
    assert use_self_attention(nn.Sequential(nn.Linear(2, 2))) == 0 and len(caplog.records) == 1
