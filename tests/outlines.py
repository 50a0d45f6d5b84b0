"""A page taken apart: whether it is well formed, and has nothing that acts."""

from __future__ import annotations

from collections import Counter
from html.parser import HTMLParser

VOID = frozenset({"meta", "link", "br", "img", "path", "rect", "input"})


class Outline(HTMLParser):
    """Elements, ids and links of a page; ``wrong`` names what is not well formed."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: Counter[str] = Counter()
        self.ids: Counter[str] = Counter()
        self.links: list[str] = []
        self.attributes: set[str] = set()
        self.open: list[str] = []
        self.wrong: list[str] = []
        self.texts: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        for name, value in attrs:
            self.attributes.add(name)
            if name == "id":
                self.ids[value or ""] += 1
            if name == "href":
                self.links.append(value or "")
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.wrong.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def outline(text: str) -> Outline:
    found = Outline()
    found.feed(text)
    found.close()
    return found


def held(text: str) -> Outline:
    """Whatever the log: well formed, ids once each, every link leads somewhere, no style or script but ours."""
    found = outline(text)
    assert (found.wrong, found.open) == ([], [])
    assert [name for name, count in found.ids.items() if count > 1] == []
    assert [link for link in found.links if not link.startswith("#") or link[1:] not in found.ids] == []
    assert found.tags["script"] == found.tags["style"] == found.tags["main"] == 1
    assert not found.tags.keys() & {"img", "iframe", "link", "object", "base", "form"}
    assert not {name for name in found.attributes if name.startswith("on") or name in {"style", "src"}}
    return found
