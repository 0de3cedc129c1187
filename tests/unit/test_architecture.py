"""Imports between packages go one way."""

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import kd

#: The packages and modules directly in kd/, lowest first: each may import only those before it.
ORDER = [
    "errors",
    "randomness",
    "paths",
    "device",
    "permissions",
    "data",
    "models",
    "metrics",
    "drawing",
    "objectives",
    "training",
    "config",
    "store",
    "teachers",
    "export",
    "evaluation",
    "experiments",
    "tables",
    "sweeps",
    "lab",
    "figures",
    "reports",
    "jobs",
    "cli",
    "__main__",
    "ui",
]

ROOT = Path(kd.__file__).parent
MODULES = {
    ".".join(("kd", *path.relative_to(ROOT).with_suffix("").parts)).removesuffix(".__init__"): path
    for path in ROOT.rglob("*.py")
}
BELOW_UI = [name for name in MODULES if not f"{name}.".startswith("kd.ui.")]


def imported(path: Path) -> set[str]:
    """Return everything that a file imports, including imports inside functions."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}: imports are absolute"
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def test_modules_are_found():
    assert {"kd", "kd.training.loop", "kd.jobs.manager", "kd.ui", "kd.__main__"} <= set(MODULES)
    assert "kd.objectives" in imported(MODULES["kd.training.loop"]) | imported(
        MODULES["kd.experiments.distil"]
    )


@pytest.mark.parametrize("name", BELOW_UI)
def test_library_does_not_import_the_app(name):
    roots = {module.split(".")[0] for module in imported(MODULES[name])}
    assert not roots & {"streamlit", "pages", "app", "tests"}
    assert not any(module == "kd.ui" or module.startswith("kd.ui.") for module in imported(MODULES[name]))


def part(module: str) -> str:
    """Return the package, or the module directly in kd/, that a module belongs to."""
    return module.split(".")[1]


def test_packages_import_only_those_below():
    upward = {
        f"{name} imports {other}"
        for name, path in MODULES.items()
        for other in imported(path) & set(MODULES) - {"kd"}
        if name != "kd" and ORDER.index(part(other)) > ORDER.index(part(name))
    }
    assert not upward


def test_few_modules_sit_directly_in_kd():
    assert len(list(ROOT.glob("*.py"))) <= 8
    assert {
        path.stem for path in ROOT.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()
    } <= {*ORDER, "__init__"}


def test_imports_form_no_cycle():
    graph = {name: (imported(path) & set(MODULES)) - {name, "kd"} for name, path in MODULES.items()}
    order = list(TopologicalSorter(graph).static_order())  # raises CycleError, which names the circle
    assert order.index("kd.objectives") < order.index("kd.training.loop") < order.index("kd.jobs.manager")


def test_one_module_knows_where_files_lie():
    knowing = {name for name, path in MODULES.items() if "__file__" in path.read_text()}
    # The script that exports come with looks for the files next to it, wherever it is unpacked.
    assert knowing <= {"kd.paths", "kd.export.script"}, "other modules ask kd.paths"


def test_no_file_exceeds_400_lines():
    files = [path for folder in ("kd", "pages", "tests") for path in (ROOT.parent / folder).rglob("*.py")]
    assert len(files) > 200
    long = {str(path.relative_to(ROOT.parent)): len(path.read_text().splitlines()) for path in files}
    assert not {name: count for name, count in long.items() if count > 400}
