"""Few files: the style sheets and scripts of a page are joined, since on a slow connection each costs half a second.

One sheet is the theme's and the same on every page; another and one script hold what else the page needs, in its order.
Formulas, which weigh more than all else, come at the same time.
"""

from __future__ import annotations

import base64
import hashlib
import posixpath
import re
from io import BytesIO
from pathlib import Path

from fontTools import subset
from fontTools.ttLib import TTFont
from sphinx.application import Sphinx

THEME = "styles/pydata-sphinx-theme.css"
FONT = "vendor/fontawesome/webfonts/fa-solid-900.ttf"
ELEMENTS = {
    "css": re.compile(r'<link (?=[^>]*rel="stylesheet")[^>]*href="((?:\.\./)*_static/)([^"?]+)[^>]*>\s*'),
    "js": re.compile(r'<script (?=[^>]*src=)[^>]*src="((?:\.\./)*_static/)([^"?]+)[^>]*></script>\s*'),
}
APART = re.compile(r"mathjax/|(searchtools|language_data)\.js")
"""Scripts that stay as they are."""
OPTIONS = re.compile(r'<script src="[^"]*_static/(documentation_options\.js)[^>]*></script>')
"""A few lines that others need while the page is read: they stand in the page."""
ICON = re.compile(r'(?:\.fa-[\w-]+:{1,2}before,?)+\{content:"[^"]*"\}')
"""The theme's rules for two thousand icons, of which `light.css` draws those in use."""
ADDRESS = re.compile(r"url\((?![\"']?(?:data:|https?:|/|#))[\"']?([^\"')]+)[\"']?\)")
SOURCES = re.compile(r"@font-face\{([^}]*)src:url\([^}]*fa-solid-900[^}]*?(?=\})")


def used_signs(sheets: str) -> set[int]:
    """The characters of an icon font that style sheets put before or after an element."""
    written = {int(code, 16) for code in re.findall(r"\\([ef][0-9a-f]{3})", sheets)}
    return written | {ord(sign) for sign in re.findall("[\ue000-\uf8ff]", sheets)}


def small_font(path: Path, signs: set[int]) -> str:
    """A font with these characters only, as an address that holds it."""
    options = subset.Options(flavor="woff", layout_features=[], glyph_names=False)
    chosen, out = subset.Subsetter(options), BytesIO()
    chosen.populate(unicodes=signs)
    with TTFont(path, recalcTimestamp=False) as font:
        chosen.subset(font)
        font.flavor = "woff"
        font.save(out)
    return f"url(data:font/woff;base64,{base64.b64encode(out.getvalue()).decode()})"


def sheet(static: Path, name: str) -> str:
    """A style sheet that may stand in one that lies in the folder `static`."""
    text = re.sub(r'@charset "[^"]*";|/\*# sourceMappingURL=[^*]*\*/', "", (static / name).read_text())
    text = ICON.sub("", text)

    def moved(found: re.Match[str]) -> str:
        return f"url({posixpath.normpath(posixpath.join(posixpath.dirname(name), found[1]))})"

    return ADDRESS.sub(moved, text)


class Bundles:
    """Joins files of a folder, each group of them once."""

    def __init__(self, static: Path) -> None:
        self.static = static
        self.made: dict[tuple[str, ...], str] = {}
        sheets = "".join(sheet(static, path.relative_to(static).as_posix()) for path in static.rglob("*.css"))
        self.font = small_font(static / FONT, used_signs(sheets)) if (static / FONT).is_file() else ""

    def name(self, parts: tuple[str, ...], kind: str) -> str:
        """Join these files and return the name of what holds them."""
        if parts not in self.made:
            if kind == "js":  # a first ";" lets no file's "use strict" hold for those behind it
                text = ";\n" + "\n;\n".join((self.static / part).read_text() for part in parts)
            else:
                text = '@charset "UTF-8";\n' + "\n".join(sheet(self.static, part) for part in parts)
                text = SOURCES.sub(lambda found: f'@font-face{{{found[1]}src:{self.font} format("woff")', text)
            name = f"together-{hashlib.sha256(text.encode()).hexdigest()[:12]}.{kind}"
            (self.static / name).write_text(text)
            self.made[parts] = name
        return self.made[parts]

    def page(self, html: str) -> str:
        """A page that loads what is joined; one that does so already follows its files."""
        head, end, body = html.partition("</head>")
        head = OPTIONS.sub(lambda one: f"<script>{(self.static / one[1]).read_text()}</script>", head)
        for kind, element in ELEMENTS.items():
            found = [one for one in element.finditer(head) if not APART.search(one[2])]
            if not found or (kind == "js" and "searchtools.js" in head):
                continue
            parts = [part for one in found for part in parts_of(one)]
            cut = parts.index(THEME) + 1 if THEME in parts else 0
            new = "".join(
                written(found[0][1], self.name(group, kind), group)
                for group in (tuple(parts[:cut]), tuple(parts[cut:]))
                if group
            )
            for one in reversed(found):
                head = head[: one.start()] + (new if one is found[0] else "") + head[one.end() :]
        return head + end + body


def parts_of(element: re.Match[str]) -> list[str]:
    """The files that an element of a page loads."""
    of = re.search(r' data-of="([^"]*)"', element[0])
    return of[1].split() if of else [element[2]]


def written(root: str, name: str, parts: tuple[str, ...]) -> str:
    """The element that loads what is joined, and says of what."""
    of = f'data-of="{" ".join(parts)}"'
    if name.endswith(".js"):
        return f'<script defer="defer" fetchpriority="high" src="{root}{name}" {of}></script>\n'
    return f'<link rel="stylesheet" href="{root}{name}" {of} />\n'


def join(app: Sphinx, error: Exception | None) -> None:
    """Join the style sheets and scripts of all pages, and remove what an earlier build joined."""
    if error or app.builder.name != "html":
        return
    out = Path(app.outdir)
    bundles = Bundles(out / "_static")
    for path in (*out.glob("*.html"), *out.glob("chapters/*.html")):
        html = path.read_text()
        if "This page has moved" in html:  # it runs its scripts at once, in their order
            continue
        if (new := bundles.page(html)) != html:
            path.write_text(new)
    for old in set((out / "_static").glob("together-*")) - {out / "_static" / name for name in bundles.made.values()}:
        old.unlink()
