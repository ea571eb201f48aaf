"""Whose files the pages load and under which licences: `licences.txt` beside the pages, with the texts.

Every file among the assets is ours, or of a package that is installed, or of a folder ``vendor`` of this book with an
entry in `INSIDE`; one that is none of these stops the build.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from importlib.metadata import Distribution, distribution, distributions, packages_distributions
from pathlib import Path
from typing import Any, NamedTuple

from sphinx.application import Sphinx
from sphinx.errors import ExtensionError

from book import feature

BOOK = Path(__file__).resolve().parent.parent
DATA = BOOK.parent / "data"
TEXTS = Path(__file__).with_name("texts")
OURS = "this book"
GENERATED = re.compile(r"moving/.*|(preview_data|anchors)\.js|together-\w+\.(js|css)")
"""What features of the book write among the assets; `book.light` joins what it joins from the others."""
WORDS = {"pygments.css": "accessible-pygments"}
"""What Sphinx writes when it builds, in the words of a package."""
TEMPLATE = re.compile(r"(_t|\.jinja)$")
NOTICE = re.compile(r"licen[cs]e|copying|notice", re.IGNORECASE)
HEAD = """\
The text and the figures of this book are under CC BY 4.0, its code is under the BSD 3-Clause licence.
What others made, and what they ask for. The texts of the licences of what the pages load are below.
"""


class Inside(NamedTuple):
    """What stands in files of another package or in a folder ``vendor``, and has no record of its own."""

    name: str
    licence: str
    text: Path
    files: str
    """An expression for the files that hold it."""
    says: str
    """An expression that is found in one of them; its group, if it has one, is the version."""


INSIDE = (
    Inside("MathJax", "Apache-2.0", BOOK / "formulas/vendor/mathjax/LICENSE", r"mathjax/.*", r"MathJax ([\d.]+)"),
    Inside("Bootstrap", "MIT", TEXTS / "bootstrap.txt", r"scripts/bootstrap\.js.*", r"Bootstrap v([\d.]+)"),
    Inside("Popper", "MIT", TEXTS / "popper.txt", r"scripts/bootstrap\.js", "data-popper-placement"),
    Inside(
        "Font Awesome Free",
        "MIT; icons CC-BY-4.0; fonts OFL-1.1",
        TEXTS / "font-awesome.txt",
        r"scripts/fontawesome\.js.*|vendor/fontawesome/.*",
        r"Font Awesome Free ([\d.]+)",
    ),
    Inside("compare-versions", "MIT", TEXTS / "compare-versions.txt", r"scripts/pydata-sphinx.*\.js", "valid semver"),
    Inside("clipboard.js", "MIT", TEXTS / "clipboard.txt", r"clipboard\.min\.js", r"clipboard\.js v([\d.]+)"),
    Inside("tiny-emitter", "MIT", TEXTS / "tiny-emitter.txt", r"clipboard\.min\.js", "TinyEmitter"),
    Inside("Tabler Icons", "MIT", TEXTS / "tabler-icons.txt", r"(check-solid|copy-button)\.svg", "icon-tabler"),
)


def owners(static: Path, packages: Iterable[Distribution]) -> dict[str, list[str]]:
    """Files among the assets under who answers for them: a package, a part of `INSIDE`, `OURS`, or "" for nobody."""
    assets = {path.relative_to(static).as_posix(): path for path in sorted(static.rglob("*")) if path.is_file()}
    ours = {path.name: path for path in BOOK.rglob("*.*") if "vendor" not in path.parts}
    vendored = {path.name: path for folder in BOOK.glob("*/vendor") for path in folder.rglob("*")}
    wanted = {plain(path.name) for path in assets.values()}
    theirs: dict[str, list[tuple[str, Path]]] = {}
    for package in packages:
        for file in package.files or ():
            if (name := TEMPLATE.sub("", file.name)) in wanted:
                theirs.setdefault(name, []).append((package.name, Path(str(file.locate()))))

    def owner(name: str, path: Path) -> str:
        content = path.read_bytes()
        if GENERATED.fullmatch(name) or (path.name in ours and ours[path.name].read_bytes() == content):
            return OURS
        if path.name in vendored and vendored[path.name].read_bytes() == content:
            return next((part.name for part in INSIDE if re.fullmatch(part.files, name)), "")
        for of, there in theirs.get(plain(path.name), ()):
            if TEMPLATE.search(there.name) or there.read_bytes() == content:  # Sphinx fills a template in
                return of
        return WORDS.get(name, "")

    found: dict[str, list[str]] = {}
    for name, path in assets.items():
        found.setdefault(owner(name, path), []).append(name)
    return found


def plain(name: str) -> str:
    """The name of a file without the hash that a package may enter into it."""
    return re.sub(r"\.[0-9a-f]{64}(?=\.)", "", name)


def version(part: Inside, static: Path) -> str:
    """What the files that hold a part say of its version, which may be nothing.

    Raises
    ------
    LookupError
        If it is in none of them any more.
    """
    files = (path for path in static.rglob("*.*") if re.fullmatch(part.files, path.relative_to(static).as_posix()))
    for path in sorted(files):
        if said := re.search(part.says, path.read_text(encoding="utf-8", errors="replace")):
            return said[1] if said.re.groups else ""
    raise LookupError(f"{part.name} is to be found in {part.files}, but no such file says {part.says!r}")


def licence(package: Distribution) -> str:
    """What a package says of its licence, in a few words."""
    said = package.metadata.json
    named = [word.rpartition(" :: ")[2] for word in said.get("classifier", ()) if word.startswith("License ::")]
    first = str(said.get("license", "")).partition("\n")[0]
    return str(said.get("license_expression") or "; ".join(named) or first or "as its own file says")


def texts(package: Distribution) -> list[str]:
    """The licences and notices that a package brings."""
    files = [file for file in package.files or () if ".dist-info/" in file.as_posix() and NOTICE.search(file.name)]
    return [file.read_text(encoding="utf-8") for file in files]


def table(title: str, rows: Iterable[tuple[str, ...]]) -> str:
    """Rows under a title, without an order that depends on the machine."""
    lines = ["  ".join(f"{word:<28}" for word in row).rstrip() for row in sorted(rows, key=lambda row: row[0].lower())]
    return "\n".join([title, "", *lines, ""])


def listed(found: dict[str, list[str]], static: Path) -> str:
    """The tables of what is not ours, and the texts that go with the files that the pages load."""
    shown = [distribution(name) for name in found if name and name not in {OURS, *(part.name for part in INSIDE)}]
    parts = [(part.name, version(part, static), part.licence) for part in INSIDE]
    names = {OURS, "pbtlib", *(package.name for package in shown)}
    tools = {(one.name, one.version, licence(one)) for one in distributions() if one.name not in names}
    notes = [path.read_text(encoding="utf-8") for path in DATA.glob("*.txt")]
    data = [
        (note.partition(":")[0], s[1])
        for note in notes
        if (s := re.search(r"^Licence +(.*?)(, below)?(\. | \(|$)", note, re.M))
    ]
    full = [(package.name, text) for package in shown for text in texts(package)]
    full += [(part.name, part.text.read_text(encoding="utf-8")) for part in INSIDE]
    return "\n".join(
        [
            HEAD,
            table("What the pages load", [*((one.name, one.version, licence(one)) for one in shown), *parts]),
            table("Data of others (in the project's folder data/, each with a note)", data),
            table("What else made the pages and is no part of them", tools),
            *(f"{'=' * 80}\n{name}\n{'=' * 80}\n\n{text.strip()}\n" for name, text in sorted(full)),
        ]
    )


def write(app: Sphinx, error: Exception | None) -> None:
    """Write the list beside the pages.

    Raises
    ------
    ExtensionError
        If nobody answers for a file that the pages may load.
    """
    if error or app.builder.name != "html":
        return
    static, brought = Path(app.outdir) / "_static", packages_distributions()
    packages = {name for module in app.extensions for name in brought.get(module.partition(".")[0], ())}
    found = owners(static, map(distribution, sorted(packages)))
    if strangers := found.get(""):
        lines = (f"ERROR: {name} is among the assets, and nobody answers for it" for name in strangers)
        raise ExtensionError("\n".join(["", *lines]))
    (Path(app.outdir) / "licences.txt").write_text(listed(found, static), encoding="utf-8")


def setup(app: Sphinx) -> dict[str, Any]:
    """Register with Sphinx."""
    app.connect("build-finished", write, priority=950)  # when all files are there
    return feature(app, __file__)
