"""Pages of the site that are made, not written: documents from outside `docs/`, and the references."""

import ast
import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parent.parent
# Documents from outside `docs/`, by the name of their page.
OUTSIDE = {
    "CONTRIBUTING.md": "CONTRIBUTING.md",
    "CHANGELOG.md": "CHANGELOG.md",
    "THIRD_PARTY.md": "THIRD_PARTY.md",
    "MODEL_CARD.md": "lumina_ray/model/bundled/MODEL_CARD.md",
}
COMMANDS = "reference/commands.md"
_FACE = re.compile(r"^<!-- face of (?P<package>[\w.]+) -->$", re.MULTILINE)
_LINK = re.compile(r"(?P<text>\[[^\]]*\])\((?P<target>[^)#\s]+)(?P<anchor>#[^)\s]*)?\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the made pages to those of `docs/`."""
    for page, source in OUTSIDE.items():
        files.append(File.generated(config, page, abs_src_path=str(ROOT / source)))
    files.append(File.generated(config, COMMANDS, content=_commands()))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Point links at pages of the site; a link to a file that is not on it becomes its text. List the faces."""
    source = OUTSIDE.get(page.file.src_uri, f"docs/{page.file.src_uri}")

    def point(link: re.Match[str]) -> str:
        target = link["target"]
        if "://" in target:
            return link[0]
        path = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
        pages = {outside: name for name, outside in OUTSIDE.items()} | {"README.md": "index.md"}
        uri = pages.get(path, path.removeprefix("docs/"))
        if uri not in files.src_uris:
            if not (ROOT / path).exists():
                raise ValueError(f"{source}: links to {target}, which is not there")
            return link["text"][1:-1]
        return f"{link['text']}({posixpath.relpath(uri, posixpath.dirname(page.file.src_uri))}{link['anchor'] or ''})"

    return _FACE.sub(lambda found: _face(found["package"]), _LINK.sub(point, markdown))


def _face(package: str) -> str:
    """The public names of a package for mkdocstrings, each where it is defined: faces only import them, and lazily."""
    folder = ROOT / package.replace(".", "/")
    stub = folder / "__init__.pyi"
    tree = ast.parse((stub if stub.exists() else folder / "__init__.py").read_text(encoding="utf-8"))
    public = None
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            public = ast.literal_eval(node.value)
    names = []
    for node in tree.body:
        if isinstance(node, ast.ImportFrom):
            module = f"{package}.{node.module}" if node.level else node.module
            names += [f"{module}.{name.name}" for name in node.names if public is None or name.name in public]
    return "\n".join(f"::: {name}" for name in sorted(names, key=lambda name: name.rpartition(".")[2].lower()))


def _commands() -> str:
    """Every command and its options, as Typer documents them."""
    import typer
    from typer.cli import get_docs_for_click

    from lumina_ray.cli.main import app

    command = typer.main.get_command(app)
    return get_docs_for_click(obj=command, ctx=typer.Context(command), name="lumina", title="The command line")
