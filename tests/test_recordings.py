"""The folders of recordings: what is written survives, what is foreign is left alone."""

import errno
import json
import os
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rig.clock import UtcClock, parse_utc, system_clock
from rig.errors import ConflictError, NoSpaceError, UnknownError, UnreadableError
from rig.files import free_bytes, write_atomically
from rig.recordings import (
    BROKEN,
    FINISHED,
    RECORDING,
    Alive,
    Manifest,
    RecordedCamera,
    RecordedReceiver,
    Recordings,
    StoredFile,
    require_closed,
)

STARTED_NS = parse_utc("2026-11-22T14:03:12.345Z")
ID = "2026-11-22_14-03-12"


@pytest.fixture
def store(tmp_path: Path) -> Recordings:
    return Recordings(tmp_path / "output")


def finished(store: Recordings, started_ns: int = STARTED_NS) -> str:
    recording_id = store.create(started_ns, "video").id
    store.update(recording_id, state=FINISHED)
    return recording_id


def test_a_recording_is_a_folder_named_by_the_utc_of_its_start(store: Recordings) -> None:
    manifest = store.create(STARTED_NS, "video", name="rue Haute")
    assert (manifest.id, manifest.state, manifest.started) == (ID, RECORDING, "2026-11-22T14:03:12.345Z")
    assert json.loads((store.output / ID / "recording.json").read_text())["name"] == "rue Haute"


def test_a_clash_gets_a_number_even_with_foreign_files_and_the_trash(store: Recordings) -> None:
    assert finished(store) == ID
    (store.output / f"{ID}-2").write_text("a foreign file")
    assert finished(store) == f"{ID}-3"
    store.trash(f"{ID}-3")
    assert store.create(STARTED_NS, "video").id == f"{ID}-4"


def test_all_of_a_manifest_comes_back() -> None:
    manifest = Manifest(
        id=ID,
        mode="camera",
        state=FINISHED,
        started="2026-11-22T14:03:12.345Z",
        stopped="2026-11-22T15:03:12.345Z",
        name="Forêt de Soignes",
        note="pluie",
        every="5m",
        software="edencar 0.1.0",
        settings={"photo_interval_s": 0.5},
        cameras=(RecordedCamera("C1", "HERO12 Black", "172.20.110.51:8080", "C1"),),
        receiver=RecordedReceiver("/dev/ttyACM0", 12),
        clock=UtcClock(1, 2, 3, "gnss"),
        warnings=("a gap",),
    )
    assert Manifest.from_json(manifest.to_json()) == manifest


def test_keys_of_a_later_version_are_ignored(store: Recordings) -> None:
    recording_id = finished(store)
    path = store.folder(recording_id) / "recording.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "weather": "rain"}))
    assert store.get(recording_id).state == FINISHED


@pytest.mark.parametrize(
    "text", ["", "\0\0\0", "[]", "3", "{}", '{"id": 1}', '{"id":"a","mode":2,"state":"x","started":"y"}']
)
def test_a_broken_manifest_is_listed_with_a_warning_and_never_overwritten(store: Recordings, text: str) -> None:
    recording_id = finished(store)
    path = store.folder(recording_id) / "recording.json"
    path.write_text(text)
    listed = store.list()[0]
    assert (listed.id, listed.state, listed.started) == (ID, BROKEN, "2026-11-22T14:03:12.000Z")
    assert "recording.json" in listed.warnings[0]
    with pytest.raises(UnreadableError):
        store.update(recording_id, note="mine")
    assert path.read_text() == text


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.binary(max_size=40)
    | st.dictionaries(
        st.sampled_from(["mode", "state", "cameras", "clock", "settings", "receiver"]),
        st.none() | st.integers() | st.lists(st.integers(), max_size=2),
    ).map(lambda values: json.dumps({"id": ID, **values}).encode())
)
def test_no_text_makes_the_manifest_raise_anything_but_unreadable(data: bytes) -> None:
    with pytest.raises(UnreadableError):
        Manifest.from_json(data)


def test_foreign_folders_and_links_are_left_alone(store: Recordings, tmp_path: Path) -> None:
    for name in ("lost+found", "2026-11-22", f"{ID}-x", f"{ID}.old", "photos"):
        (store.output / name).mkdir()
    (store.output / "2026-11-23_00-00-00").symlink_to(tmp_path)
    (store.output / "2026-99-99_99-99-99").mkdir()  # like one of ours, of no date
    recording_id = finished(store)
    assert [manifest.id for manifest in store.list()] == ["2026-99-99_99-99-99", recording_id]
    with pytest.raises(UnknownError):
        store.folder("2026-11-23_00-00-00")


def test_the_newest_comes_first(store: Recordings) -> None:
    ids = [finished(store, STARTED_NS + seconds * 10**9) for seconds in (0, 0, 5)]
    ids += [finished(store) for _ in range(9)]
    assert [manifest.id for manifest in store.list()][:2] == [ids[2], f"{ID}-11"]
    assert [manifest.id for manifest in store.list()][-1] == ID


@pytest.mark.parametrize(
    "bad", ["", ".", "..", ".trash", "../output", f"{ID}/", f"{ID}/..", f"/{ID}", ID + "\n", ID + "\0", "a" * 5000]
)
def test_only_the_form_of_an_id_is_looked_for(store: Recordings, bad: str) -> None:
    finished(store)
    with pytest.raises(UnknownError):
        store.folder(bad)
    with pytest.raises(UnknownError):
        store.restore(bad)


def test_a_list_leaves_out_what_is_moved_away_meanwhile(store: Recordings, monkeypatch: pytest.MonkeyPatch) -> None:
    here = finished(store)
    monkeypatch.setattr("rig.recordings._names", lambda _folder: ["2026-11-22_15-00-00", here])
    assert [manifest.id for manifest in store.list()] == [here]


def test_files_of_what_moves_away_meanwhile_are_unknown(store: Recordings, monkeypatch: pytest.MonkeyPatch) -> None:
    here = finished(store)
    (store.folder(here) / "videos").mkdir()
    walk = os.scandir

    def scan(folder: Path) -> object:
        if folder.name == "videos":
            store.trash(here)
        return walk(folder)

    monkeypatch.setattr("rig.recordings.os.scandir", scan)
    with pytest.raises(UnknownError):
        store.files(here)


def test_the_trash_gives_back_everything(store: Recordings) -> None:
    recording_id = finished(store)
    (store.folder(recording_id) / "photos.csv").write_text("photo")
    store.trash(recording_id)
    assert store.list() == []
    assert list(store.list_trash()) == [recording_id]
    assert store.restore(recording_id).state == FINISHED
    assert (store.folder(recording_id) / "photos.csv").read_text() == "photo"
    with pytest.raises(UnknownError, match="trash"):
        store.restore(recording_id)


def test_an_emptied_trash_follows_no_link(store: Recordings, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "kept").write_text("not ours")
    recording_id = finished(store)
    (store.folder(recording_id) / "folder").symlink_to(tmp_path / "outside")
    (store.folder(recording_id) / "file").symlink_to(tmp_path / "outside" / "kept")
    folder = store.folder(recording_id)
    store.trash(recording_id)
    folder.symlink_to(tmp_path / "outside")  # where a recording was, one that leads outside: neither listed nor deleted
    for verb in (store.get, store.trash, store.discard, store.files):
        with pytest.raises(UnknownError):
            verb(recording_id)
    assert store.drop_oldest_trash() == recording_id
    assert list(store.list_trash()) == []
    assert (tmp_path / "outside" / "kept").read_text() == "not ours"


def test_what_is_being_recorded_is_not_thrown_away(store: Recordings) -> None:
    recording_id = store.create(STARTED_NS, "video").id
    with pytest.raises(ConflictError):
        store.trash(recording_id)


def test_nothing_is_restored_over_something_else(store: Recordings) -> None:
    recording_id = finished(store)
    store.trash(recording_id)
    (store.output / recording_id).write_text("foreign")
    with pytest.raises(ConflictError):
        store.restore(recording_id)


def test_files_are_regular_files_only(store: Recordings) -> None:
    recording_id = finished(store)
    folder = store.folder(recording_id)
    (folder / "videos" / "C1").mkdir(parents=True)
    (folder / "videos" / "C1" / "stream-001.ts").write_bytes(b"G" * 188)
    (folder / "photos.csv.tmp").write_text("half")
    (folder / "videos" / ".fetch.json").write_text("{}")
    (folder / "hosts").symlink_to("/etc/hosts")
    (folder / "etc").symlink_to("/etc")
    os.mkfifo(folder / "pipe")
    files = store.files(recording_id)
    assert [file.path for file in files] == ["recording.json", "videos/C1/stream-001.ts"]
    assert files[1] == StoredFile("videos/C1/stream-001.ts", 188)
    assert store.file(recording_id, "videos/C1/stream-001.ts").read_bytes() == b"G" * 188
    for bad in (
        "",
        ".",
        "hosts",
        "etc/hosts",
        "pipe",
        "videos",
        "../x",
        "videos/../recording.json",
        "/etc/hosts",
        "a\0b",
        "a" * 999,
    ):
        with pytest.raises(UnknownError):
            store.file(recording_id, bad)


def test_a_failed_write_keeps_the_old_file_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "recording.json"
    write_atomically(path, b"old")

    def no_space(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(OSError, match="No space"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_has_its_own_error(store: Recordings, monkeypatch: pytest.MonkeyPatch) -> None:
    recording_id = finished(store)

    def no_space(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(NoSpaceError):
        store.update(recording_id, note="x")
    with pytest.raises(NoSpaceError):
        store.create(STARTED_NS, "video")
    assert [manifest.id for manifest in store.list()] == [recording_id]


def test_both_the_file_and_its_folder_are_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []
    real = os.fsync

    def fsync(descriptor: int) -> None:
        synced.append(str(Path(f"/proc/self/fd/{descriptor}").readlink()))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    write_atomically(tmp_path / "a", b"x")
    assert synced == [str(tmp_path / "a.tmp"), str(tmp_path)]


def test_changes_from_many_threads_are_all_kept(store: Recordings) -> None:
    recording_id = finished(store)
    names = ["name", "note", "every", "software"]
    threads = [threading.Thread(target=store.update, args=(recording_id,), kwargs={name: "x"}) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    manifest = store.get(recording_id)
    assert [getattr(manifest, name) for name in names] == ["x"] * 4


def test_free_bytes_is_what_the_system_says(tmp_path: Path) -> None:
    disk = os.statvfs(tmp_path)
    assert free_bytes(tmp_path) == pytest.approx(disk.f_bavail * disk.f_frsize, rel=0.05)


def test_only_what_a_server_records_at_this_moment_is_not_closed(
    store: Recordings, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, now = store.folder(made := store.create(STARTED_NS, "photos").id), Alive.now(system_clock())
    require_closed(store.output)  # no recording
    store.update(made, alive=replace(now, boot="another"))
    require_closed(folder)
    store.update(made, alive=now)
    with pytest.raises(ConflictError, match="is being recorded: stop it first"):
        require_closed(folder)
    with monkeypatch.context() as later:
        later.setattr("rig.recordings.SILENT_S", 0.0)
        require_closed(folder)
    store.update(made, state=FINISHED)
    require_closed(folder)
