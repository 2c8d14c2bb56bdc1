"""The page in Chromium: class names become a recipe."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from react_ray.recipe import load_recipe
from tests.support.chromium import needs_chromium
from tests.support.page_actions import ask_for_classes, cards

pytestmark = needs_chromium


def test_classes_become_a_recipe_with_a_threshold_and_without_the_rejected_pairs(tab: Page, tmp_path: Path) -> None:
    with tab.expect_response("**/v1/classes") as caught:
        ask_for_classes(tab)
    found = caught.value.json()["classes"]
    num_selected = tab.locator("#sum b")
    expect(num_selected).to_have_text("18")
    entry = tab.get_by_role("region", name="sushi")
    entry.scroll_into_view_if_needed()
    entry.locator(".face").first.press("ArrowRight")
    tab.keyboard.press("x")
    expect(tab.locator("#sum")).to_contain_text("1 rejected")
    rejected = int(entry.locator(".hit.rejected").get_attribute("data-pair") or "")
    assert rejected == found[0]["hits"][1]["pair_id"]
    for key in ("End", *["ArrowLeft"] * 12):
        tab.locator("#threshold").press(key)
    threshold = float(tab.inner_text("output"))
    tab.fill("form.save input", "mine")
    with tab.expect_download() as download:
        tab.click("form.save button")
    assert download.value.suggested_filename == "mine.yaml"
    download.value.save_as(tmp_path / "mine.yaml")
    expect(tab.locator(".command code")).to_have_text("react-ray retrieve mine.yaml")
    retrieve = load_recipe(str(tmp_path / "mine.yaml")).retrieve
    assert retrieve.pairs_per_class == 6 and retrieve.exclude == [rejected]
    assert retrieve.min_score == pytest.approx(threshold, abs=1e-3)
    passing = [sum(score >= retrieve.min_score for score in one["scores"]) for one in found]
    passing[0] -= found[0]["hits"][1]["score"] >= retrieve.min_score
    expected = str(sum(min(6, num) for num in passing))
    expect(num_selected).to_have_text(expected)
    assert 0 < int(expected) < 18
    chosen = f'"min_score": {retrieve.min_score}, "exclude": [ {rejected} ]'
    assert chosen in tab.locator("#snippets code").first.text_content()
    assert f"min_score: {retrieve.min_score}\nexclude: [{rejected}]" in (
        tab.locator("#rules code").text_content() or ""
    )
    expect(tab).to_have_url(re.compile(f"min_score={re.escape(str(retrieve.min_score))}(&|$)"))  # when it rests
    expect(tab).to_have_url(re.compile(f"rejected={rejected}(&|$)"))
    tab.reload()
    cards(tab)
    expect(num_selected).to_have_text(expected)


def test_classes_are_taken_from_a_task_sifted_and_opened(tab: Page) -> None:
    tab.click("#tab-classes")
    tab.select_option("#task", "weather")
    expect(tab.locator("#names")).to_be_disabled()
    expect(tab.locator("#task-classes")).to_contain_text("cloud")
    tab.click("#classes [type=submit]")
    cards(tab)
    num_all = tab.locator("section.entry").count()
    tab.fill(".sift input[type=search]", "rainbow")
    assert 0 < tab.locator("section.entry:visible").count() < num_all
    tab.locator("section.entry:visible .face").first.click()
    expect(tab.locator("#detail .reasons")).to_contain_text("by “")
    tab.click("#detail button:has-text('Similar')")
    expect(tab.locator("#tab-search")).to_have_attribute("aria-current", "page")
    cards(tab)
    tab.click("#tab-classes")
    expect(tab.locator("section.entry")).to_have_count(num_all)


def test_the_python_of_a_view_finds_the_same_classes(tab: Page) -> None:
    ask_for_classes(tab)
    names = set(tab.locator("#class-list section").evaluate_all("all => all.map(one => one.ariaLabel)"))
    tab.click("#snippets summary")
    python = tab.locator("#snippets code").nth(1).inner_text()
    said = subprocess.run([sys.executable, "-c", python], capture_output=True, text=True, check=True).stdout
    assert len(names) == 3 and all(any(line.startswith(f"{name} ") for line in said.splitlines()) for name in names)


def test_class_names_that_cannot_be_searched_are_refused(tab: Page) -> None:
    tab.click("#tab-classes")
    tab.fill("#names", "fox\nfox")
    tab.click("#classes [type=submit]")
    expect(tab.get_by_role("alert")).to_contain_text("is there twice")
