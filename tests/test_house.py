"""The house keeps its shape: who may import whom, and what is in each language."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MAY_IMPORT = {
    "server": {"car", "jobs", "rig", "configs"},
    "car": {"rig", "configs"},
    "jobs": {"rig", "configs"},
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
# The rooms of rig/, from the lowest: each may use those before it, none those after it.
LAYERS = ("gnss", "footage", "camera", "timing", "photo", "live", "drive", "cluster")
APART = {"http"}  # uses and is used by none of them


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
    files = [ROOT / f"{room}.py"] if (ROOT / f"{room}.py").exists() else sorted((ROOT / room).rglob("*.py"))
    assert files
    for file in files:
        assert imports(file) & OURS <= MAY_IMPORT[room] | {room}, file


def rooms_of_rig(path: Path) -> set[str]:
    """Those that a file imports from, anywhere in it; "" for the modules that lie in none."""
    rooms = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "rig":
            steps = (node.module or "").split(".")[1:] + [alias.name for alias in node.names]
            rooms.add(steps[0] if (ROOT / "rig" / steps[0]).is_dir() else "")
    return rooms


@pytest.mark.parametrize("room", ["", *LAYERS, *sorted(APART)])
def test_arrows_between_the_rooms_of_rig_point_down(room: str) -> None:
    below = set(LAYERS[: LAYERS.index(room)]) if room in LAYERS else set()
    files = sorted((ROOT / "rig" / room).glob("*.py"))
    assert files
    for file in files:
        assert rooms_of_rig(file) <= below | {room, ""}, file


def test_the_plan_of_the_house_names_each_module() -> None:
    plan = (ROOT / "docs/design.md").read_text(encoding="utf-8")
    named = re.findall(r"^ {4,8}(\w+)\.py ", plan, re.MULTILINE)
    assert sorted(named) == sorted(path.stem for path in (ROOT / "rig").rglob("*.py") if path.stem != "__init__")
    assert f"in rig/: {' -> '.join(reversed(LAYERS))} -> " in plan


def test_each_room_of_rig_has_its_place() -> None:
    assert {path.parent.name for path in (ROOT / "rig").glob("*/*.py")} == {*LAYERS, *APART}
