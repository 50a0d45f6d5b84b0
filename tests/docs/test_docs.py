"""The documentation: its outputs are those of now, its links lead somewhere, and its words are ordinary."""

from __future__ import annotations

import ast
import re
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tools"))

from doc_outputs import has_outputs, updated  # noqa: E402  # a tool, not a package

PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "contrib").rglob("*.md")])
_FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\((?P<target>[^)#\s]*)(?:#(?P<part>[^)\s]*))?\)")
# Words that a reader of the kernel's Documentation would stumble over, with the ordinary one.
STUMBLES = {
    "utilise": "use", "utilize": "use", "leverage": "use", "seamless": "leave it out", "seamlessly": "leave it out",
    "blazing": "say how fast", "blazingly": "say how fast", "robust": "say against what", "simply": "leave it out",
    "obviously": "leave it out", "whilst": "while", "hitherto": "until now", "aforementioned": "name it",
    "wherein": "in which", "thereof": "of it", "whence": "from where", "betwixt": "between", "nay": "no",
    "behoove": "should", "fruitful": "useful", "delve": "look", "plethora": "many", "myriad": "many",
    "lest": "so that … not", "amid": "between", "whereby": "by which", "thereby": "by this", "herein": "here",
    "hence": "so", "thus": "so", "albeit": "although", "notwithstanding": "despite", "upon": "on", "shall": "is to",
}  # fmt: skip
_MOST_WORDS = 50  # of a sentence; the longest that was found easy to read aloud has 48
_TABLE = re.compile(r"^(?:\|.*|    .*)$", re.MULTILINE)
_SENTENCE = re.compile(r"(?<=[.:;?!])\s+|\n\s*\n|\n(?=[*#>-])")


def ids(path: Path) -> str:
    return str(path.relative_to(ROOT))


def anchors(page: str) -> set[str]:
    """Of its headings, as GitHub makes them."""
    heads = re.findall(r"^#{1,6} (.+)$", _FENCE.sub("", page), re.MULTILINE)
    made = {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}
    return made | set(re.findall(r'(?:id|name)="([^"]+)"', page))


def stumbles(text: str) -> dict[str, str]:
    words = re.findall(r"[a-z]+", text.lower())
    return {word: STUMBLES[word] for word in words if word in STUMBLES}


@cache
def text_of(path: Path) -> str:
    return path.read_text()


@pytest.mark.parametrize("path", [p for p in PAGES if has_outputs(text_of(p))], ids=ids)
def test_shown_outputs_are_those_of_now(path: Path) -> None:
    """Each command is run again; `tools/doc_outputs.py` brings a page up to date."""
    assert updated(text_of(path)) == text_of(path)


@pytest.mark.parametrize("path", PAGES, ids=ids)
def test_links_lead_somewhere(path: Path) -> None:
    """To a file of the repository, and to a heading that the file has."""
    for match in _LINK.finditer(_FENCE.sub("", text_of(path))):
        target, part = match["target"], match["part"]
        if "://" in target or target.startswith("mailto:"):
            continue
        file = (path.parent / target).resolve() if target else path
        assert file.exists(), f"{path.name}: {match[0]}"
        if part and file.suffix == ".md":
            assert part in anchors(text_of(file)), f"{path.name}: {match[0]}"


@pytest.mark.parametrize("path", PAGES, ids=ids)
def test_words_are_ordinary(path: Path) -> None:
    """None of those that make a page sound like an advertisement, or like an old book."""
    assert stumbles(_FENCE.sub("", text_of(path))) == {}


@pytest.mark.parametrize("path", sorted((ROOT / "src").rglob("*.py")), ids=ids)
def test_words_of_the_program_are_ordinary(path: Path) -> None:
    """Those of answers, advice, the catalogue, help and docstrings."""
    texts = (node.value for node in ast.walk(ast.parse(text_of(path))) if isinstance(node, ast.Constant))
    sentences = " ".join(text for text in texts if isinstance(text, str) and " " in text)
    assert stumbles(sentences) == {}


@pytest.mark.parametrize("path", [p for p in PAGES if p.name != "CHANGELOG.md"], ids=ids)
def test_sentences_can_be_read_aloud(path: Path) -> None:
    """None is so long that its reader has to begin again."""
    prose = _TABLE.sub("", _FENCE.sub("", text_of(path)))
    assert [part for part in _SENTENCE.split(prose) if len(part.split()) > _MOST_WORDS] == []
