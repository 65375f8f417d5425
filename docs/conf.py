"""Sphinx configuration: the pages of docs/ and an API reference from the docstrings. See `docs` in the Makefile."""

import inspect
import pkgutil
import re
from importlib import import_module
from importlib.metadata import version as version_of
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx

import unlabeled

project, author = "Unlabeled", "The Unlabeled authors"
version = release = version_of("unlabeled")
extensions = ["sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode", "myst_parser"]
html_theme, html_title = "furo", f"Unlabeled {release}"
html_copy_source = html_show_copyright = smartquotes = False
html_static_path, html_css_files = ["static"], ["wide.css"]
myst_heading_anchors = 3
autodoc_default_options = {"members": True, "undoc-members": True, "show-inheritance": True}
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autodoc_inherit_docstrings = False
napoleon_use_ivar = True
python_maximum_signature_line_length = 88

ARGUMENT = re.compile(r"^ +(\w+): [^#\n]*  # (.+)$", re.M)  # `encoder: nn.Module,  # x (B, C, H, W) -> h`


def write_reference(app: Sphinx) -> None:
    """One page a package, with a section for each of its modules, and a list of the packages."""
    rooms: dict[str, list[str]] = {"unlabeled": []}
    for module in pkgutil.walk_packages(unlabeled.__path__, "unlabeled."):
        if module.ispkg:
            rooms[module.name] = []
        elif not module.name.endswith((".__main__", ".worker")):
            rooms[module.name.rpartition(".")[0]].append(module.name)
    rooms = {room: modules for room, modules in rooms.items() if modules or import_module(room).__doc__}
    folder = Path(app.srcdir) / "api"
    folder.mkdir(exist_ok=True)
    for room, modules in rooms.items():
        lines = heading(room, "=")
        if import_module(room).__doc__:  # with what it defines itself; the rest stands below its module
            lines += [f".. automodule:: {room}", "   :ignore-module-all:", ""]
        for name in modules:
            lines += [*heading(name.rpartition(".")[2], "-"), f".. automodule:: {name}", ""]
        (folder / f"{room}.rst").write_text("\n".join(lines))
    tree = [*heading("API reference", "="), ".. toctree::", "   :maxdepth: 1", "", *(f"   {room}" for room in rooms)]
    (folder / "index.rst").write_text("\n".join(tree) + "\n")


def heading(title: str, line: str) -> list[str]:
    return [title, line * len(title), ""]


def plain_text(app: Sphinx, what: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
    """A docstring of ours as reStructuredText: `code` in backticks, equations indented, everything else as written."""
    before, literal = "", False
    given, lines[:] = list(lines), []
    for line in given:
        indented = line.startswith("    ")
        if indented and not literal and not before.strip():
            lines += ["::", ""]
        literal = indented or (literal and not line.strip())
        lines.append(line if literal else escaped(line))
        before = line
    if what == "class":
        lines += ["", *(f":param {argument}: {escaped(comment)}" for argument, comment in comments(thing))]


def escaped(line: str) -> str:
    field = re.match(r"(:[\w ]+: )?", line)[0]
    text = re.sub(
        r"`([^`]+)`|([*_|`\\])", lambda found: f"``{found[1]}``" if found[1] else f"\\{found[2]}", line[len(field) :]
    )
    return field + text


def comments(kind: Any) -> list[tuple[str, str]]:
    """What stands in the code beside a class's arguments, or beside the fields of a named tuple or a data class."""
    fields = hasattr(kind, "_fields") or hasattr(kind, "__dataclass_fields__")
    if not fields and not inspect.isfunction(vars(kind).get("__init__")):
        return []
    source = inspect.getsource(kind if fields else kind.__init__)
    return [found for found in ARGUMENT.findall(source) if found[0] in inspect.signature(kind).parameters]


def signature(app: Sphinx, what: str, name: str, thing: Any, *given: Any) -> tuple[str, str] | None:
    """Protocols are not constructed."""
    return ("", "") if what == "class" and getattr(thing, "_is_protocol", False) else None


def skipped(app: Sphinx, what: str, name: str, thing: Any, skip: bool, options: Any) -> bool | None:
    """Fields of named tuples stand above, with what they mean."""
    return True if str(getattr(thing, "__doc__", "")).startswith("Alias for field number") else None


def setup(app: Sphinx) -> None:
    app.connect("builder-inited", write_reference)
    app.connect("autodoc-process-docstring", plain_text)
    app.connect("autodoc-process-signature", signature)
    app.connect("autodoc-skip-member", skipped)
