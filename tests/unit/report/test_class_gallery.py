"""The gallery shows every class, is complete in itself, and is safe with text and bytes from the web."""

from __future__ import annotations

import base64
import hashlib
import re

from react_ray.report.class_gallery import ClassEntry, Gallery, Pair, render
from react_ray.report.class_gallery_style import SCRIPT
from tests.support.html_page import Page
from tests.support.report_example import EVIL, picture

PICTURE = picture(0)


def pair(number: int, **changes: object) -> Pair:
    values: dict = {
        "pair_id": number,
        "caption": f"caption {number}",
        "url": f"https://example.org/{number}.jpg",
        "score": 0.9 - number / 1000,
        "key": "text",
        "prompt": "a photo of a heron.",
        "picture": PICTURE,
        "status": "ok",
    }
    return Pair(**(values | changes))


def entry(name: str, num_pairs: int = 2, score: float | None = 0.5, **changes: object) -> ClassEntry:
    values: dict = {
        "task": "birds",
        "class_name": name,
        "prompts": [f"a photo of a {name}.", f"a drawing of a {name}."],
        "num_pairs": num_pairs,
        "score_min": score,
        "score_mean": score,
        "score_max": score,
        "best": [pair(number) for number in range(num_pairs)],
    }
    return ClassEntry(**(values | changes))


def gallery(*classes: ClassEntry, **changes: object) -> Gallery:
    values: dict = {"name": "herons", "facts": [("pairs", "12")], "classes": list(classes)}
    return Gallery(**(values | changes))


def names(html: str) -> list[str]:
    return [section["data-name"] for section in Page(html).of("section", "entry")]


def test_classes_that_are_flagged_come_first_then_those_with_few_pairs_and_low_scores() -> None:
    html = render(
        gallery(
            entry("many", 3),
            entry("low", 2, 0.3),
            entry("none", 0, None),
            entry("high", 2, 0.6),
            entry("flagged", 5, flags=["far"], z=2.0),
            entry("worse", 5, flags=["far"], z=1.0),
        )
    )
    assert names(html) == ["worse", "flagged", "none", "low", "high", "many"]


def test_classes_without_a_flag_are_ordered_by_their_match() -> None:
    assert names(render(gallery(entry("a", 1, z=9.0), entry("b", 7, z=3.0), entry("c", 1, z=5.0)))) == ["b", "c", "a"]


def test_each_class_shows_its_pairs_with_score_key_query_and_advice() -> None:
    one = entry(
        "heron",
        best=[pair(1, others=("crane",))],
        last=[pair(7, caption="the last one")],
        flags=["no_caption_names_it"],
        advice=["Add a synonym."],
        measures=[("captions that name it", "0%")],
    )
    page = Page(
        render(
            gallery(
                one,
                notes=["12 pairs for 1 class"],
                warnings=["2 of 5 parts are done so far.", "`react-ray retrieve` goes on."],
            )
        )
    )
    for text in (
        "text 0.899",
        "caption 1",
        "also: crane",
        "its last pairs",
        "the last one",
        "no caption names it",
        "Add a synonym.",
        "captions that name it 0%",
        "a photo of a heron.” and 1 more",
        "12 pairs for 1 class",
        "2 of 5 parts are done so far.",
        "1 of 1 classes does not look like what was asked for: heron.",
    ):
        assert text in page.text, text
    assert "code" in page.tags and "`" not in page.text
    [title] = {figure["title"] for figure in page.of("figure") if "caption 1" in figure["title"]}
    assert "query: a photo of a heron." in title and "pair_id 1" in title


def test_a_class_without_pairs_says_why() -> None:
    page = Page(
        render(gallery(entry("heron", 0, None), entry("crane", 0, None, dropped=True, flags=["unnamed", "weak"])))
    )
    assert "No pair was retrieved for it." in page.text and "left out by retrieve.min_match" in page.text
    assert "captions do not name it" in page.text and "like a random query" in page.text


def test_the_page_loads_nothing_and_runs_only_its_own_script() -> None:
    html = render(gallery(entry("heron"), entry("crane")))
    page = Page(html)
    assert page.tags.count("script") == 1 and not page.handlers and "link" not in page.tags
    assert page.loads and all(address.startswith("data:image/webp;base64,") for address in page.loads)
    assert "url(" not in html and "@import" not in html and "fetch(" not in html
    [policy] = [of["content"] for of in page.of("meta") if of.get("http-equiv") == "Content-Security-Policy"]
    [script] = re.findall(r"<script>(.*?)</script>", html, re.DOTALL)
    allowed = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert script == SCRIPT and policy.startswith("default-src 'none';") and f"script-src 'sha256-{allowed}'" in policy
    assert "prefers-color-scheme: dark" in html and "content-visibility: auto" in html


def test_every_element_that_the_script_uses_is_there() -> None:
    classes = [entry("heron"), entry("crane", task="machines", flags=["far"])]
    for html in (render(gallery(*classes)), render(gallery(classes[0]))):
        ids = set(Page(html).ids)
        used = set(re.findall(r"box\('(\w+)'\)", SCRIPT))
        assert used - ids <= {"task", "flagged"}  # which the script looks for before it uses them
    assert {"classes", "filter", "order", "count", "none", "tools"} <= ids and "task" not in ids


def test_text_from_the_web_is_text_wherever_it_stands() -> None:
    evil = entry(
        EVIL,
        task=EVIL,
        prompts=[EVIL, EVIL],
        best=[pair(0, caption=EVIL, prompt=EVIL, credit=EVIL, others=(EVIL,), status=EVIL, picture=None, key=EVIL)],
        flags=[EVIL],
        advice=[EVIL],
        measures=[(EVIL, EVIL)],
    )
    html = render(gallery(evil, name=EVIL, facts=[(EVIL, EVIL)], notes=[EVIL], warnings=[EVIL]))
    page = Page(html)
    assert page.tags.count("script") == 1 and "alert('x')" not in html
    assert page.text.count(EVIL) >= 15


def test_only_web_addresses_become_links() -> None:
    urls = [
        "https://e.org/a.jpg?x=1&y=2",
        "javascript:alert(1)",
        "data:text/html,x",
        "file:///etc/passwd",
        "http://[",
        "",
    ]
    page = Page(render(gallery(entry("heron", best=[pair(i, url=url) for i, url in enumerate(urls)]))))
    assert [link for link in page.links if not link.startswith("#")] == [urls[0]]


def test_bytes_that_are_no_image_are_not_given_to_a_browser_and_the_reason_is_said() -> None:
    pairs = [
        pair(0, picture=b"<svg onload=alert(1)>", status="cannot be shown"),
        pair(1, picture=None, status="http_404"),
    ]
    page = Page(render(gallery(entry("heron", best=pairs))))
    assert page.tags.count("img") == 0 and "cannot be shown" in page.text and "http_404" in page.text


def test_the_file_stays_within_its_bytes_and_every_class_keeps_its_best_pairs() -> None:
    classes = [entry(f"class {i}", 12) for i in range(40)]
    whole = len(render(gallery(*classes)).encode())
    html = render(gallery(*classes), max_bytes=whole // 2)
    page = Page(html)
    assert len(html.encode()) <= whole // 2 and len(names(html)) == 40
    kept = page.tags.count("figure")
    assert 40 <= kept < 480 and f"{480 - kept} pairs are left out to keep this file small." in page.text
    assert page.text.count("caption 0") == 40


def test_authors_are_named_and_very_many_of_them_do_not_fill_the_page() -> None:
    few = [pair(i, credit=f"author {i}") for i in range(3)]
    assert "Pictures by: author 0; author 1; author 2." in Page(render(gallery(entry("heron", best=few)))).text
    many = [pair(i, credit=f"author {i:04d} {'x' * 200}", picture=None) for i in range(500)]
    page = Page(render(gallery(entry("heron", best=many))))
    assert "; and 300 more, each in its picture's title." in page.text and "author 0300" not in page.text
    assert any("author 0300" in figure["title"] for figure in page.of("figure"))


def test_thousands_of_classes_are_all_there() -> None:
    html = render(gallery(*(entry(f"class {i}", 1, best=[pair(i, picture=None)]) for i in range(3000))))
    page = Page(html)
    assert len(page.of("section", "entry")) == 3000 and len(set(page.ids)) == len(page.ids)


def test_the_same_retrieval_gives_the_same_bytes() -> None:
    classes = [entry(name) for name in ("heron", "crane")]
    assert render(gallery(*classes)) == render(gallery(*reversed(classes)))
