"""A recording on its way to a store: whole, on from where it broke off, and checked."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from rig.cluster import upload
from rig.drive import checksums
from rig.errors import ConflictError, DeviceError, UnreadableError
from rig.recordings import OPEN_STATES, Recordings
from tests.cluster.parts import run, s3_server, tree, write_recording
from tests.cluster.proxy import Fate, bad_line
from tests.cluster.stores import empty, fill

LARGE = 3 * upload.CHUNK_BYTES + 12_345


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recording with one large file."""
    folder = write_recording(tmp_path_factory.mktemp("output"))
    noise = np.random.default_rng(3).integers(0, 256, LARGE, dtype=np.uint8)
    (folder / "videos" / "left" / "GX010001.MP4").write_bytes(noise.tobytes())
    checksums.seal(Recordings(folder.parent), folder.name)
    return folder


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    with s3_server() as environment:
        fill("s3://depot/x", tmp_path_factory.mktemp("nothing"), environment)
        yield environment


def test_all_files_go_and_a_second_time_only_what_is_new(recording: Path, tmp_path: Path) -> None:
    first = upload.upload(recording, str(tmp_path))
    assert tree(tmp_path / recording.name) == tree(recording)
    assert first.bytes_sent == sum(len(data) for data in tree(recording).values())
    upload.check(recording, str(tmp_path))
    again = upload.upload(recording, str(tmp_path))
    assert again.files_before == first.files - len(upload.LAST)
    assert again.bytes_sent < 5_000


def test_what_was_made_anew_goes_again(recording: Path, tmp_path: Path) -> None:
    shutil.copytree(recording, tmp_path / "output" / recording.name)
    table = tmp_path / "output" / recording.name / "photos.csv"
    table.write_text("one")
    upload.upload(table.parent, str(tmp_path / "depot"))
    table.write_text("two")
    upload.upload(table.parent, str(tmp_path / "depot"))
    assert (tmp_path / "depot" / recording.name / "photos.csv").read_text() == "two"


def test_a_broken_upload_to_a_folder_goes_on_after_what_is_the_same(recording: Path, tmp_path: Path) -> None:
    source = recording / "videos" / "left" / "GX010001.MP4"
    begun = tmp_path / recording.name / "videos" / "left" / "GX010001.MP4.part"
    begun.parent.mkdir(parents=True)
    data = source.read_bytes()
    begun.write_bytes(data[: upload.CHUNK_BYTES] + b"power cut" * 1000)
    done = upload.upload(recording, str(tmp_path))
    assert tree(tmp_path / recording.name) == tree(recording)
    total = sum(len(data) for data in tree(recording).values())
    assert done.bytes_sent == total - upload.CHUNK_BYTES


def test_a_broken_upload_to_s3_goes_on_with_the_next_part(recording: Path, s3: dict[str, str], tmp_path: Path) -> None:
    def fate(number: int, method: str, path: str) -> Fate:
        return "refuse" if "partNumber=3" in path else "pass"

    with bad_line(s3["AWS_ENDPOINT_URL"], fate) as address:
        broken = run("-m rig.cluster.upload", recording, "s3://depot/car1", **s3 | {"AWS_ENDPOINT_URL": address})
    assert broken.code == 7
    assert "run it again" in broken.errors
    done = run("-m rig.cluster.upload", recording, "s3://depot/car1", "--check", **s3)
    assert done.code == 0, done.errors
    small = sum(len(data) for name, data in tree(recording).items() if name in upload.LAST)
    rest = done.said["bytes_sent"] - small
    assert rest < LARGE - 2 * upload.CHUNK_BYTES + 5_000_000
    assert rest >= LARGE - 2 * upload.CHUNK_BYTES
    assert tree(empty("s3://depot/car1", tmp_path, s3) / recording.name) == tree(recording)


def test_two_uploads_of_one_recording_do_not_mix(recording: Path, tmp_path: Path) -> None:
    told: list[str] = []

    def begin_another(_share: float) -> None:
        with pytest.raises(ConflictError, match="is being uploaded already: wait for that") as refused:
            upload.upload(recording, str(tmp_path))
        told.append(str(refused.value))

    upload.upload(recording, str(tmp_path), begin_another)
    assert told
    assert tree(tmp_path / recording.name) == tree(recording)


def test_what_is_spoilt_there_is_told(recording: Path, tmp_path: Path) -> None:
    upload.upload(recording, str(tmp_path))
    spoilt = tmp_path / recording.name / "videos" / "left" / "stream-001.ts"
    spoilt.write_bytes(spoilt.read_bytes()[:-1] + b"\0")
    with pytest.raises(UnreadableError, match="is not what was recorded"):
        upload.check(recording, str(tmp_path))


@pytest.mark.parametrize("state", OPEN_STATES)
def test_what_is_still_being_made_stays_here(state: str, recording: Path, tmp_path: Path) -> None:
    here = tmp_path / "output" / recording.name
    shutil.copytree(recording, here)
    (here / checksums.NAME).unlink()
    Recordings(here.parent).update(here.name, state=state)
    with pytest.raises(ConflictError, match="stop it first"):
        upload.upload(here, str(tmp_path / "depot"))
    assert not (here / checksums.NAME).exists(), "it would not know the files that are still to come"


def test_a_depot_that_cannot_be_written_is_told(recording: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises((DeviceError, UnreadableError), match="file"):
        upload.upload(recording, str(tmp_path / "file"))


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["nowhere", "s3://depot"], 2, "there is no recording nowhere"),
        (["RECORDING", "nosuch://depot"], 2, "no store is called nosuch://"),
        (["RECORDING", "github://depot"], 2, "github:// is no store for this"),
        (["RECORDING", "s3:/depot"], 2, "no place for recordings"),
        (["RECORDING", "s3://"], 2, "no place for recordings"),
        (["RECORDING", ""], 2, "no place for recordings"),
        (["RECORDING", "RECORDING"], 2, "lies in the recording itself"),
    ],
)
def test_bad_input_is_told_in_one_line(
    words: list[str], code: int, says: str, recording: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert upload.main([word.replace("RECORDING", str(recording)) for word in words] + ["--json"]) == code
    printed = capsys.readouterr()
    assert says in json.loads(printed.out)["error"]
    assert len(printed.err.splitlines()) == 1
