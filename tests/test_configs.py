"""Settings come from the environment, a file and the defaults, and nonsense is refused."""

import json
from pathlib import Path

import pytest

import configs
from configs import SettingError, Settings
from rig.camera.fleet import safe_name
from rig.photo.locate import direction_of
from rig.photo.photos import Photo

NO_FILE = Path("no such file")
WORDS = Path(__file__).parent.parent / "web/i18n"


def test_the_environment_wins_over_the_file_and_the_file_over_the_default(tmp_path: Path) -> None:
    file = tmp_path / "edencar.toml"
    file.write_text('port = 5001\njpeg_quality = 80\ncameras = ["a:1", "b:2"]\n')
    settings = configs.load({"EDENCAR_PORT": "5002", "HOME": "/"}, file)
    assert (settings.port, settings.jpeg_quality, settings.cameras) == (5002, 80, ("a:1", "b:2"))
    assert settings.max_gap_s == Settings().max_gap_s


def test_lists_are_separated_by_commas_in_the_environment() -> None:
    settings = configs.load({"EDENCAR_LEVER_ARM_M": "1.5,-0.2,0", "EDENCAR_CAMERAS": ""}, NO_FILE)
    assert (settings.lever_arm_m, settings.cameras) == ((1.5, -0.2, 0.0), ())


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PHOTO_INTERVAL_S", "-1"),
        ("PHOTO_INTERVAL_S", "nan"),
        ("JPEG_QUALITY", "1000"),
        ("PORT", "http"),
        ("WEBCAM_RESOLUTION", "999"),
        ("LEVER_ARM_M", "1,2"),
        ("CAMERA_DIRECTIONS", "left=outwards"),
        ("NOSUCH", "1"),
    ],
)
def test_nonsense_is_refused_by_name(name: str, value: str) -> None:
    with pytest.raises(SettingError, match=name.lower()):
        configs.load({f"EDENCAR_{name}": value}, NO_FILE)


@pytest.mark.parametrize("text", ["nosuch = 1", "port = ", "port = [1]"])
def test_a_bad_file_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "edencar.toml"
    file.write_text(text)
    with pytest.raises(SettingError):
        configs.load({}, file)


def test_the_table_tells_what_is_set_and_a_mistake(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EDENCAR_LEVER_ARM_M", "1,2,3")
    (tmp_path / "edencar.toml").write_text("camera_settings = []\n")
    assert configs.main() == 0
    rows = {line.split(" | ")[0]: line.split(" | ")[1:3] for line in capsys.readouterr().out.splitlines()}
    assert rows["| `lever_arm_m`"] == ["0.0, 0.0, 0.0", "1.0, 2.0, 3.0"]
    assert rows["| `camera_settings`"] == ["175=1, 59=0, 135=0", "(empty)"]
    assert rows["| `port`"] == ["5000", ""]
    (tmp_path / "edencar.toml").write_text("lever_arm = [1, 2, 3]\n")
    assert configs.main() == 2
    said = capsys.readouterr()
    assert "unknown setting 'lever_arm'" in said.err
    assert "| `lever_arm_m` |" in said.out


@pytest.mark.parametrize("language", ["fr", "en"])
def test_each_name_that_the_page_offers_a_camera_has_its_direction(language: str) -> None:
    words = json.loads((WORDS / f"{language}.json").read_text(encoding="utf-8"))
    for place, turn_deg in (("left", 270), ("right", 90), ("front", 0), ("rear", 180)):
        name = words[f"label.{place}"]
        # As it was typed, as a phone's keyboard begins it, and as the folder is called where nobody knows the name.
        for label, folder in ((name, "C1"), (name.capitalize(), "C1"), ("", safe_name(name))):
            row = Photo(photo="p.jpg", camera=folder, utc="2026-11-22T14:03:12.345Z", heading_deg=0.0)
            assert direction_of(row, label, Settings().camera_directions) == turn_deg, label or folder


def test_the_table_lists_every_setting_with_its_reason() -> None:
    table = configs.table(Settings())
    for name in Settings.__dataclass_fields__:
        assert f"| `{name}` |" in table
