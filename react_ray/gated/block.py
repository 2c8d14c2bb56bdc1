"""GatedBlock: the only module that trains in gated-image tuning (REACT section 2.2).

It maps image tokens [B, N, D] (or [N, B, D]) to the same shape: x + tanh(a) * f(x), twice. With both gates at zero it
is the identity, bit for bit.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

import torch
from torch import Tensor, nn

from react_ray.clip.attention import SelfAttention


class GatedBlock(nn.Module):
    """A pre-norm transformer block behind two scalar gates.

    Parameters have the names of the released checkpoints and PyTorch's default initialisation, as in their training.
    The gates have shape [1] here, because DeepSpeed fails on scalars, and are scalars in files.
    """

    def __init__(
        self,
        d_model: int,
        n_head: int,
        mlp_ratio: float = 4.0,
        act_layer: Callable[[], nn.Module] = nn.GELU,
        norm_layer: Callable[[int], nn.Module] = nn.LayerNorm,
        batch_first: bool = True,
    ) -> None:
        super().__init__()
        self.alpha_attn = nn.Parameter(torch.zeros(1))
        self.alpha_dense = nn.Parameter(torch.zeros(1))
        self.ln_1 = norm_layer(d_model)
        self.attn = SelfAttention(d_model, n_head, batch_first=batch_first)
        self.ln_2 = norm_layer(d_model)
        width = int(d_model * mlp_ratio)
        self.mlp = nn.Sequential(
            OrderedDict(c_fc=nn.Linear(d_model, width), gelu=act_layer(), c_proj=nn.Linear(width, d_model))
        )

    def forward(self, x: Tensor) -> Tensor:
        # The casts keep the residual stream in its own dtype under autocast.
        y = self.ln_1(x)
        y = self.attn(y, y, y, need_weights=False)[0]
        x = x + torch.tanh(self.alpha_attn).to(x.dtype) * y.to(x.dtype)
        y = self.mlp(self.ln_2(x))
        return x + torch.tanh(self.alpha_dense).to(x.dtype) * y.to(x.dtype)
