"""The architecture, as imports: the library knows neither Ray nor FastAPI, and data flows one way."""

import ast
from pathlib import Path

import pytest

LIBRARY = Path(__file__).parent.parent / "lumina_ray"
# Each may import from those before it.
ORDER = ["errors", "storage", "audio", "catalog", "model", "gradients", "fingerprint", "store", "methods"]
ORDER += ["calibration", "index", "attribution", "report"]
MODULES = sorted(LIBRARY.rglob("*.py"))


def imports(module: Path) -> set[str]:
    """Absolute names that a module imports anywhere, inside functions and type-checking blocks too."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: relative import"
            names.add(node.module or "")
    return names


@pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(LIBRARY)))
def test_imports_run_leftwards_and_never_to_ray(module: Path) -> None:
    package = module.relative_to(LIBRARY).parts[0].removesuffix(".py")
    for name in imports(module):
        assert name.split(".")[0] not in {"ray", "fastapi"}
        parts = name.split(".")
        if package in ORDER and parts[0] == "lumina_ray" and len(parts) > 1:
            assert parts[1] in ORDER, f"{package} imports {name}"
            assert ORDER.index(parts[1]) <= ORDER.index(package), f"{package} imports {name}"
        if package in ORDER:
            assert parts[0] not in {"cluster", "serve"}
