"""The house keeps its shape: who may import whom, and what is in each language."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
TOP = {"server", "car", "jobs", "gopro", "capturePositions", "parseVideo", "parsePhotos"}
MAY_IMPORT = {
    "server": {"car", "jobs", "gopro", "capturePositions", "parseVideo", "parsePhotos", "rig", "configs"},
    "car": {"gopro", "capturePositions", "rig", "configs"},
    "jobs": {"parseVideo", "parsePhotos", "rig", "configs"},
    "gopro": {"rig", "configs"},
    "capturePositions": {"rig", "configs"},
    "parseVideo": {"rig", "configs"},
    "parsePhotos": {"rig", "configs"},
    "rig": {"rig", "configs"},
    "configs": set(),
    "measure": {"measure", "rig", "configs"},
    "simulator": {"simulator"},
}
OURS = set(MAY_IMPORT) | {"tests", "benchmarks"}


def imports(path: Path) -> set[str]:
    """First names of all that a file imports, anywhere in it."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add((node.module or "").split(".")[0])
    return names


@pytest.mark.parametrize("room", sorted(MAY_IMPORT))
def test_arrows_point_down(room: str) -> None:
    files = [ROOT / f"{room}.py"] if (ROOT / f"{room}.py").exists() else sorted((ROOT / room).glob("*.py"))
    assert files
    for file in files:
        assert imports(file) & OURS <= MAY_IMPORT[room], file
