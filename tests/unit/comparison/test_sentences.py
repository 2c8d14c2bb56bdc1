"""What was forgotten comes first, and a difference within its interval is neither a gain nor a loss."""

from __future__ import annotations

from react_ray.comparison.compare import Comparison, Difference
from react_ray.comparison.sentences import sentences
from react_ray.comparison.text import notes
from react_ray.report.intervals import Gain

UP, DOWN = Gain(0.034, 0.019, 0.048, 60, p=0.0002, mcnemar=0.0004), Gain(-0.041, -0.06, -0.02, 50, mcnemar=0.01)
NOISE = Gain(0.012, -0.004, 0.029, 40, p=0.2, mcnemar=0.25)


def said(*differences: tuple[str, bool, Gain]) -> list[tuple[str, str]]:
    found = [Difference("run", dataset, off, gain, 816) for dataset, off, gain in differences]
    return [tuple(one) for one in sentences(Comparison("base", [], found))]


def test_a_gain_has_its_interval_and_its_images() -> None:
    assert said(("birds", False, UP)) == [
        ("gain", "run is above base on birds: +3.4, 95 % interval 1.9 to 4.8, 816 images, McNemar p <0.001")
    ]


def test_noise_is_not_told_apart_whatever_its_sign() -> None:
    [(kind, text)] = said(("birds", False, NOISE))
    assert kind == "same"
    assert text == (
        "run is not told apart from base on birds: +1.2, 95 % interval −0.4 to 2.9, 816 images, McNemar p 0.250"
    )
    few = Gain(0.05, 0.01, 0.09, 5, p=0.01)
    assert said(("birds", False, few))[0][0] == "same"


def test_a_metric_that_counts_instead_is_named() -> None:
    [sentence] = sentences(Comparison("base", [], [Difference("run", "pets", False, UP, 816, "mean_per_class")]))
    assert sentence.text.startswith("run is above base on pets: +3.4 mean per class, 95 % interval 1.9 to 4.8, ")


def test_a_gain_that_mcnemar_s_test_doubts_is_none() -> None:
    doubted = Gain(0.096, 0.012, 0.181, 14, p=0.03, mcnemar=0.057)
    [(kind, text)] = said(("birds", False, doubted))
    assert kind == "same" and "is not told apart" in text and text.endswith("McNemar p 0.057")
    [one] = [Difference("run", "birds", False, doubted, 83)]
    assert "excludes zero but McNemar's p is not below 0.05" in notes([one], 1)
    assert "McNemar" not in notes([one._replace(gain=UP)], 1)


def test_what_was_forgotten_comes_first_then_other_losses() -> None:
    found = said(("a", False, UP), ("b", False, DOWN), ("c", True, NOISE), ("d", True, DOWN))
    assert [kind for kind, _ in found] == ["loss", "loss", "gain", "same"]
    assert found[0][1].startswith("run forgot: −4.1, 95 % interval −6.0 to −2.0, 816 images, McNemar p 0.010, on d")
    assert found[1][1].startswith("run is below base on b: −4.1")
    assert "on c (off target): " in found[3][1]
