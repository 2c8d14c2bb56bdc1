"""The toolkit's linear probe is torch's own modules and optimiser, many weight decays at a time."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from react_ray.evals.elevater_probe import EPOCHS, OF_ONE_SHOT, _train, train_swept
from react_ray.evals.few_shot import draw
from react_ray.evals.target import has_collapsed
from tests.support.digits import CLASSES, digits


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.mark.parametrize("several", [False, True])
def test_each_weight_decay_trains_as_torch_does_alone(several: bool) -> None:
    of = digits()
    images_ND, labels_N = (torch.from_numpy(values[:129]) for values in (of.train_ND, of.train_label_N))
    text_CD = torch.from_numpy(of.text_CD)  # and a last batch of one
    targets = torch.stack([labels_N == digit for digit in range(10)], dim=1) if several else labels_N
    if several:
        targets[:, 3] |= labels_N == 8
    decays, seen = (0.0, 0.01, 1.0), []
    _train(images_ND, targets, text_CD, 0.05, decays, 7, 3, lambda classify: seen.append(classify(images_ND)))
    for run, decay in enumerate(decays):
        expected = _by_torch(images_ND, targets, text_CD, 0.05, decay)
        assert torch.allclose(seen[-1][run], expected, atol=1e-3)


def _by_torch(images_ND: Tensor, targets: Tensor, start_CD: Tensor, rate: float, decay: float) -> Tensor:
    head = nn.Linear(*reversed(start_CD.shape))
    head.weight.data, head.bias.data = start_CD.clone(), torch.zeros(len(start_CD))
    model = nn.Sequential(nn.BatchNorm1d(start_CD.shape[1], affine=False), head)
    optimizer = torch.optim.SGD(model.parameters(), rate, momentum=0.9, weight_decay=decay)
    loss = F.cross_entropy if targets.ndim == 1 else F.binary_cross_entropy_with_logits
    generator = torch.Generator().manual_seed(7)
    for _ in range(3):
        model.train()
        for rows in torch.randperm(len(images_ND), generator=generator).split(64):
            if len(rows) > 1:
                optimizer.zero_grad()
                loss(model(images_ND[rows]), targets[rows] * 1.0 if targets.ndim == 2 else targets[rows]).backward()
                optimizer.step()
    return model.eval()(images_ND).detach()


def test_training_improves_on_the_prompts_and_gives_the_test_images_after_every_epoch() -> None:
    of = digits()
    rows = draw(of.train_label_N, 16, 0, CLASSES, "digits")
    found = train_swept(of.train_ND[rows], of.train_label_N[rows], of.text_CD, of.test_ND, 0)
    accuracy_E = (found.logits_ENC.argmax(axis=2) == of.test_label_N).mean(axis=1)
    zero_shot = ((of.test_ND @ of.text_CD.T).argmax(axis=1) == of.test_label_N).mean()
    assert found.logits_ENC.shape == (EPOCHS, 897, 10) and not found.collapsed
    assert accuracy_E[-1] > zero_shot + 0.03 and found.learning_rate >= 1e-3
    again = train_swept(of.train_ND[rows], of.train_label_N[rows], of.text_CD, of.test_ND, 0)
    assert (again.logits_ENC == found.logits_ENC).all()


def test_of_one_shot_rate_and_decay_are_the_configured_ones() -> None:
    of = digits()
    rows = draw(of.train_label_N, 1, 0, CLASSES, "digits")
    found = train_swept(of.train_ND[rows], of.train_label_N[rows], of.text_CD, of.test_ND, 0)
    assert (found.learning_rate, found.weight_decay) == OF_ONE_SHOT


def test_training_that_ends_below_the_prompts_on_its_own_images_has_collapsed() -> None:
    of = digits()
    images_ND, targets = torch.from_numpy(of.train_ND), torch.from_numpy(of.train_label_N)
    seen: list[Tensor] = []
    # The decay of such a rate turns the sign of the weights at every step, and they grow without end.
    train = (images_ND, targets, torch.from_numpy(of.text_CD), 0.1, [100.0], 0, 5)
    _train(*train, lambda classify: seen.append(classify(images_ND)[0]))
    assert has_collapsed(of.train_ND @ of.text_CD.T, seen[-1].numpy(), of.train_label_N)
