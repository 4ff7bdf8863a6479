"""How the tests read the documents: their prose, blocks, tables and code marks, and the code's figures."""

import ast
import re
import textwrap
from contextlib import suppress
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
DOCS = ROOT / "docs"
DOCUMENTS = [README, ROOT / "CHANGELOG.md", *sorted(DOCS.glob("*.md"))]
DEPLOY = sorted((ROOT / "deploy").iterdir())
FENCED = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
WEBSOCKET_PATH = re.search(r'path\("([^"]+)"', (ROOT / "calls" / "routing.py").read_text())[1]


def prose(path):
    """A document without its fenced blocks."""
    return FENCED.sub("", path.read_text())


def blocks(language, *paths):
    """The fenced blocks of a language."""
    for path in paths or DOCUMENTS:
        for _, fence_language, body in FENCED.findall(path.read_text()):
            if fence_language == language:
                yield textwrap.dedent(body)


def section(path, heading):
    """What stands under a heading."""
    return prose(path).split(f"## {heading}\n", 1)[1].split("\n## ", 1)[0]


def rows(path, heading):
    """The cells of the first table under a heading, without code marks; its head is left out."""
    table = re.search(r"^\|.*\n\|[-|]+\n((?:\|.*\n?)+)", section(path, heading), re.MULTILINE)[1]
    return [
        [cell.strip().replace("`", "") for cell in line.strip("|").split("|")] for line in table.splitlines()
    ]


def constants(path):
    """The figures a module of `calls` names. Importing it would load Pipecat or start Twisted."""
    found = {}
    for node in ast.parse((ROOT / "calls" / path).read_text()).body:
        with suppress(ValueError):  # what is no literal is no figure
            match node:
                case ast.Assign([ast.Name(name)], value):
                    found[name] = ast.literal_eval(value)
                case ast.Assign([ast.Tuple(names)], ast.Tuple() as values):
                    found |= zip((name.id for name in names), ast.literal_eval(values), strict=True)
    return found


def inline_codes():
    """Every piece of inline code, over all documents."""
    return [code for path in DOCUMENTS for code in re.findall(r"`([^`\n]+)`", prose(path))]
