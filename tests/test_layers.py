"""The architecture, as imports: the library knows neither Ray nor FastAPI, and data flows one way."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

LIBRARY = Path(__file__).parent.parent / "lumina_ray"
# Each may import from those before it.
ORDER = [
    "errors",
    "vocabulary",
    "callable_package",
    "storage",
    "files",
    "audio",
    "evidence",
    "catalog",
    "model",
    "embedding",
    "gradients",
    "unlearning",
    "fingerprint",
    "store",
    "methods",
]
ORDER += ["diagnostics", "calibration", "index", "attribution", "report", "statement"]
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


@pytest.mark.parametrize(
    "use",
    [
        "import lumina_ray; lumina_ray.open_model, lumina_ray.index, lumina_ray.fingerprint",
        "import lumina_ray.cli.main",
        "from lumina_ray.store import read_store, store_status, stream_store",
        # What a job's driver imports, and its tasks that read, decode and write.
        "import cluster.fingerprint",
    ],
)
def test_torch_comes_only_with_a_model(use: str) -> None:
    """It takes seconds, of each of a job's processes and of `lumina status`."""
    code = f"import sys; {use}; print([name for name in ('torch', 'transformers') if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


@pytest.mark.parametrize(
    ("use", "unneeded"),
    [
        # `lumina --help` and what completes a command in a shell.
        ("import lumina_ray.cli.main", ["numpy", "pyarrow", "pydantic", "scipy", "rich.progress", "unittest"]),
        # An answer, and its table or JSON, which need no picture, no table of pandas, and none of SciPy's statistics.
        (
            "import lumina_ray.front.index, lumina_ray.audio, lumina_ray.attribution.fingerprinter; "
            "from lumina_ray.report import print_table, to_json, render_html",
            ["matplotlib", "pandas", "scipy.stats", "scipy.signal", "scipy.optimize", "torch._dynamo", "transformers"],
        ),
    ],
)
def test_a_command_waits_for_no_import_that_it_does_not_need(use: str, unneeded: list[str]) -> None:
    code = f"import sys; {use}; print([name for name in {unneeded} if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


@pytest.mark.parametrize("stub", sorted(LIBRARY.rglob("*/__init__.pyi")), ids=lambda path: path.parent.name)
def test_no_name_of_a_face_is_one_of_its_modules(stub: Path) -> None:
    """A lazy face would give the module instead, once anything has imported it."""
    names = {
        alias.name
        for node in ast.walk(ast.parse(stub.read_text()))
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert not names & {path.stem for path in stub.parent.iterdir()}
