from __future__ import annotations

from pathlib import Path

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


def test_every_block_of_a_backbone_has_it(tmp_path: Path) -> None:
    model = tiny_backbone(tmp_path, vocab_size=8, last_k_layers=1).model
    found = [type(module) for module in model.modules() if isinstance(module, nn.MultiheadAttention)]
    assert found == [SelfAttention] * 6
