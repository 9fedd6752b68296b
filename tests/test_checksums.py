"""What was recorded is told from what has changed since."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from rig.camera.cardfiles import LEDGER
from rig.drive.checksums import NAME, Verdict, main, seal, unsealed, verify
from rig.drive.fetching import Fetches
from rig.errors import UnreadableError
from rig.recordings import FINISHED, INTERRUPTED, Recordings


@pytest.fixture
def store(tmp_path: Path) -> Recordings:
    return Recordings(tmp_path)


@pytest.fixture
def recording(store: Recordings) -> str:
    made = store.create(0, "video").id
    for path in ("videos/left/stream-001.ts", "positions/raw.nmea", "positions/uploads/base.nmea", "photos/left/a.jpg"):
        (store.folder(made) / path).parent.mkdir(parents=True, exist_ok=True)
        (store.folder(made) / path).write_text(path * 1000)
    (store.folder(made) / "videos/left/link.ts").symlink_to("/etc/hosts")
    store.update(made, state=FINISHED)
    return made


def test_what_did_not_change_is_whole(store: Recordings, recording: str) -> None:
    assert list(unsealed(store)) == [recording]
    assert seal(store, recording)
    assert list(unsealed(store)) == []
    (store.folder(recording) / "photos/left/a.jpg").write_text("made anew")
    assert verify(store, recording) == Verdict(recording, 2, (), (), ())


def test_one_flipped_bit_a_lost_and_a_new_file_are_found(store: Recordings, recording: str) -> None:
    seal(store, recording)
    video = store.folder(recording) / "videos/left/stream-001.ts"
    data = bytearray(video.read_bytes())
    data[12345] ^= 1
    video.write_bytes(data)
    (store.folder(recording) / "positions/raw.nmea").rename(store.folder(recording) / "positions/raw.txt")
    verdict = verify(store, recording)
    assert verdict == Verdict(
        recording, 0, ("positions/raw.nmea",), ("videos/left/stream-001.ts",), ("positions/raw.txt",)
    )
    assert not verdict.good


def test_sealing_gives_way_and_leaves_nothing(store: Recordings, recording: str) -> None:
    assert not seal(store, recording, lambda: False)
    assert not (store.folder(recording) / NAME).exists()


def test_what_changes_while_it_is_sealed_gets_no_checksums_yet(store: Recordings, recording: str) -> None:
    def go_on() -> bool:
        (store.folder(recording) / "videos/left/GX010001.MP4").touch()
        return True

    assert not seal(store, recording, go_on)
    assert list(unsealed(store)) == [recording]


def test_what_came_from_a_card_later_gets_its_checksums_too(store: Recordings, recording: str) -> None:
    ledger = store.folder(recording) / "videos/left" / LEDGER
    ledger.touch()
    part = ledger.with_name("GX010001.MP4.part")
    part.touch()
    store.update(recording, state=INTERRUPTED)
    assert seal(store, recording)
    fetches = Fetches(store)
    fetches.add(recording)
    part.rename(part.with_suffix(""))
    ledger.unlink()
    fetches.follow(set())
    assert list(unsealed(store)) == [recording]


def test_what_still_changes_is_not_sealed(store: Recordings) -> None:
    store.create(0, "video")
    assert list(unsealed(store)) == []


def test_the_systems_own_tool_reads_the_list(store: Recordings, recording: str) -> None:
    if shutil.which("sha256sum") is None:
        pytest.skip("sha256sum is not here")
    seal(store, recording)
    subprocess.run(["sha256sum", "--check", "--strict", "--quiet", NAME], cwd=store.folder(recording), check=True)


@pytest.mark.parametrize("text", ["not a sum\n", "0" * 64 + "\n"])
def test_a_broken_list_is_told(store: Recordings, recording: str, text: str) -> None:
    (store.folder(recording) / NAME).write_text(text)
    with pytest.raises(UnreadableError):
        verify(store, recording)


def test_the_command(store: Recordings, recording: str, capsys: pytest.CaptureFixture[str]) -> None:
    folder = str(store.folder(recording))
    assert main([folder]) == 3
    seal(store, recording)
    capsys.readouterr()
    assert main([folder, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["whole"] == 2
    (store.folder(recording) / "positions/raw.nmea").unlink()
    assert main([folder]) == 3
    assert "missing: positions/raw.nmea" in capsys.readouterr().err
    assert main([folder + "-7"]) == 2


def test_a_copy_under_another_name_is_told_apart_from_none(
    store: Recordings, recording: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = store.folder(recording).rename(tmp_path / "copy")
    assert main([str(copy)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"edencar verify: {copy} is not called like a recording: ")
