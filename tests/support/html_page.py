"""Reads a page as a browser does: its tags, its text, and everything that it would load or run."""

from __future__ import annotations

from html.parser import HTMLParser

VOID = {"meta", "img", "br", "hr", "input", "link"}
LOADS = ("src", "xlink:href", "srcset", "action", "data", "poster", "background")


class Page(HTMLParser):
    """Fails if a tag is never closed or closes another one."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.loads: list[str] = []
        self.links: list[str] = []
        self.handlers: list[str] = []
        self.ids: list[str] = []
        self.attributes: list[tuple[str, dict[str, str]]] = []
        self._texts: list[str] = []
        self.feed(html)
        self.close()
        assert not self.open, f"never closed: {self.open}"
        self.text = "".join(self._texts)

    def of(self, tag: str, kind: str = "") -> list[dict[str, str]]:
        """The attributes of all tags of a name, of one class if it is given."""
        return [of for name, of in self.attributes if name == tag and (not kind or kind in of.get("class", "").split())]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        of = {name: value or "" for name, value in attrs}
        self.attributes.append((tag, of))
        self.loads += [of[name] for name in LOADS if name in of]
        self.links += [of["href"]] if "href" in of else []
        self.handlers += [name for name in of if name.startswith("on")]
        self.ids += [of["id"]] if "id" in of else []
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open.pop() == tag, f"</{tag}> closes another tag"

    def handle_data(self, data: str) -> None:
        self._texts.append(data)
