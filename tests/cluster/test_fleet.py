"""Many recordings by address: the same photos as one by one, whatever fails, on this machine and on a cluster."""

import json
import os
import shutil
import subprocess
import sys
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

import parsePhotos
import parseVideo
from configs import Settings
from rig.cluster import command, engine, planning, store, tasks
from rig.cluster.steps import Place, Plan, Share
from rig.cluster.videosteps import VideoSteps
from rig.errors import UsageError
from rig.photo import photos
from rig.photo.making import Wish
from rig.photo.photos import Photo
from rig.photo.spacing import Every
from tests.cluster.parts import NAMES, PATTERN, ROOT, dask_cluster, run, tree
from tests.cluster.proxy import Fate, bad_line
from tests.cluster.stores import empty, fill
from tests.machine import wait_for

WISH = Wish(every=Every(0.5), sharpest_of=1, min_sharpness=0.0, quality=90)


@dataclass(frozen=True, slots=True)
class Suicidal(VideoSteps):
    """Ends its own process at the first share."""

    trap: Path = Path()

    def make(self, share: Share, place: Place) -> list[dict[str, Any]]:
        if not self.trap.exists():
            self.trap.touch()
            os._exit(1)
        return VideoSteps.make(self, share, place)


@dataclass(frozen=True, slots=True)
class Poisonous(VideoSteps):
    """Ends whatever process looks at a recording with poison in it."""

    def prepare(self, place: Place) -> Plan:
        if (place.folder / "videos" / "left" / "poison.txt").exists():
            os._exit(1)
        return VideoSteps.prepare(self, place)


@pytest.fixture(scope="module")
def alone(cars: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What the usual way makes of one of them: photos, then places, without what belongs to the recording itself."""
    folder = tmp_path_factory.mktemp("alone") / NAMES[0].rpartition("/")[2]
    assert parseVideo.main([str(cars / NAMES[0]), "--output", str(folder)]) == 0
    for name in ("recording.json", "positions/positions.csv"):
        (folder / name).parent.mkdir(exist_ok=True)
        shutil.copy2(cars / NAMES[0] / name, folder / name)
    assert parsePhotos.main([str(folder)]) == 0
    return tree(folder)


def fleet(sources: object, output: object, *options: object) -> int:
    words = [sources, "--executor", "local", "--jobs", 2, "--output", output, *options]
    return parseVideo.main([str(word) for word in words])


def test_many_recordings_give_the_very_bytes_of_each_alone(cars: Path, alone: dict[str, bytes], tmp_path: Path) -> None:
    assert fleet(cars / PATTERN, tmp_path) == 0
    assert parsePhotos.main([str(tmp_path / PATTERN), "--executor", "local"]) == 0
    same = tree(tmp_path / NAMES[0])
    assert same.keys() == alone.keys()
    assert [name for name in same if same[name] != alone[name]] == []
    for name in NAMES[1:]:
        assert photos.read_table(tmp_path / name)
    totals = json.loads((tmp_path / "fleet" / "photos.json").read_text())["totals"]
    assert totals["done"] == 3
    assert totals["photos"] == 3 * len(photos.read_table(tmp_path / NAMES[0]))
    page = (tmp_path / "fleet" / "photos.html").read_text()
    assert page.count('class="way"') == 3
    assert all(name in page for name in NAMES)
    assert "http" not in page.partition("<script>")[0].replace("http-equiv", "")


@pytest.mark.timeout(300)
def test_a_cluster_and_s3_give_the_same_bytes(
    cars: Path, alone: dict[str, bytes], s3: dict[str, str], tmp_path: Path
) -> None:
    with dask_cluster(tmp_path, 2, **s3) as cluster:
        there = ("--executor", cluster.executor)
        words = ("parseVideo.py", f"s3://fleet/in/{PATTERN}", "--output", "s3://fleet/out", *there)
        made = run(*words, **s3)
        assert made.code == 0, made.errors
        assert made.said["recordings"] == 3
        placed = run("parsePhotos.py", f"s3://fleet/out/{PATTERN}", *there, **s3)
        assert placed.code == 0, placed.errors
        again = run(*words, **s3)
        assert (again.said["done_before"], again.said["photos"]) == (3, 0)
    same = tree(empty("s3://fleet/out", tmp_path / "out", s3) / NAMES[0])
    assert same.keys() == alone.keys()
    assert [name for name in same if same[name] != alone[name]] == []
    assert not list(tmp_path.glob(f"{tasks.SCRATCH}*")), "nothing is left on the workers"


def test_a_second_run_does_only_what_is_missing(cars: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert fleet(cars / "car1" / "2026-11-*", tmp_path / "out") == 0
    shutil.copytree(cars / NAMES[0], tmp_path / "in" / "car1" / "2026-11-22_14-03-12", copy_function=shutil.copy2)
    assert fleet(cars / PATTERN, tmp_path / "out", "--dry-run") == 0
    assert "3 recordings; 3 to do" in capsys.readouterr().out, "another address above: other names"
    assert fleet(cars / PATTERN, tmp_path / "out2") == 0
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out2").rglob("*.jpg")}
    assert fleet(cars / PATTERN, tmp_path / "out2") == 0
    assert "3 recordings, 3 of them done before; 0 photos" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out2").rglob("*.jpg")} == before
    assert fleet(cars / PATTERN, tmp_path / "out2", "--every", "1s") == 0, "another wish is another work"
    for name in NAMES:
        rows = photos.read_table(tmp_path / "out2" / name)
        assert {row.photo for row in rows} == {
            path.relative_to(tmp_path / "out2" / name).as_posix() for path in (tmp_path / "out2" / name).rglob("*.jpg")
        }


def test_an_interrupted_run_leaves_nothing_half_and_goes_on(
    cars: Path, alone: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settle, calls = engine.Run._settle, iter(range(1000))

    def interrupted(self: engine.Run, *arguments: object) -> None:
        if next(calls) == 3:  # after some plans and shares
            raise KeyboardInterrupt
        settle(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(engine.Run, "_settle", interrupted)
    assert fleet(cars / PATTERN, tmp_path) == 130
    monkeypatch.undo()
    done = [json.loads(path.read_text())["share"] for path in (tmp_path / "fleet").rglob("parts/*/*.json")]
    for name in NAMES:
        assert (tmp_path / name / "photos.csv").exists() == bool(list((tmp_path / "fleet").glob(f"photos-{name[:4]}*")))
    assert not list(tmp_path.rglob(f"*{store.PART_SUFFIX}"))
    assert not list((tmp_path / "fleet" / "luggage").iterdir())
    stamps = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.jpg")}
    assert done
    assert stamps
    assert fleet(cars / PATTERN, tmp_path) == 0
    again = {path for path, stamp in stamps.items() if path.stat().st_mtime_ns != stamp}
    assert again == set(), "no photo is made twice"
    assert (tmp_path / NAMES[0] / "photos" / "left").is_dir()
    assert {name for name in alone if name.endswith(".jpg")} <= tree(tmp_path / NAMES[0]).keys()
    assert not list((tmp_path / "fleet").rglob("parts/*/*.json"))


def test_in_place_photos_of_other_cameras_stay_and_the_recording_is_as_it_was(cars: Path, tmp_path: Path) -> None:
    folder = tmp_path / "car1" / NAMES[0].rpartition("/")[2]
    shutil.copytree(cars / NAMES[0], folder)
    recorded = tree(folder)
    other = Photo(photo="photos/right/a.jpg", camera="right", utc="2026-11-22T14:03:12.000Z")
    stale = Photo(photo="photos/left/stale.jpg", camera="left", utc="2026-11-22T14:03:12.001Z")
    for row in (other, stale):
        (folder / row.photo).parent.mkdir(parents=True)
        (folder / row.photo).write_bytes(b"jpeg")
    photos.write_table(folder, [other, stale])
    words = [str(tmp_path / PATTERN), "--executor", "local", "--jobs", "1"]
    assert parseVideo.main(words) == 0
    rows = photos.read_table(folder)
    assert other in rows
    assert stale not in rows
    assert (folder / other.photo).exists()
    assert not (folder / stale.photo).exists()
    assert len(rows) > 5
    assert recorded.items() <= tree(folder).items()


def test_what_was_done_counts_no_longer_once_other_photos_were_begun_or_results_are_gone(
    cars: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fleet(cars / PATTERN, tmp_path) == 0
    wanted = tree(tmp_path / NAMES[0])
    monkeypatch.setattr(engine.Run, "_count", interrupt)  # after the first share
    assert fleet(cars / PATTERN, tmp_path, "--every", "1s") == 130
    monkeypatch.undo()
    shutil.rmtree(tmp_path / NAMES[2])
    capsys.readouterr()
    assert fleet(cars / PATTERN, tmp_path) == 0
    assert "3 of them done" not in capsys.readouterr().out
    for name in NAMES:
        made = tree(tmp_path / name)
        assert {path for path in made if path.endswith(".jpg")} == {path for path in wanted if path.endswith(".jpg")}
        assert made["photos.csv"] == wanted["photos.csv"]


def test_photos_of_a_camera_that_is_gone_from_the_recording_go(cars: Path, tmp_path: Path) -> None:
    folder = tmp_path / "in" / NAMES[0]
    shutil.copytree(cars / NAMES[0], folder)
    right = shutil.copytree(folder / "videos" / "left", folder / "videos" / "right")
    assert fleet(folder, tmp_path / "out") == 0
    made = tmp_path / "out" / folder.name / "photos"
    assert list((made / "right").glob("*.jpg"))
    shutil.rmtree(right)
    assert fleet(folder, tmp_path / "out") == 0
    assert not list((made / "right").glob("*"))
    assert list((made / "left").glob("*.jpg"))


def interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def test_a_recording_of_which_something_failed_is_not_done(
    cars: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("EDENCAR_PRIVACY_COMMAND", "false")
    for _ in range(2):
        assert fleet(cars / "car1" / "2026-*", tmp_path) == 3
        told = capsys.readouterr().err
        assert "left out" in told
        assert NAMES[0].rpartition("/")[2] in told, "and of which recording"
    monkeypatch.setenv("EDENCAR_PRIVACY_COMMAND", "")
    assert fleet(cars / "car1" / "2026-*", tmp_path) == 0
    assert photos.read_table(tmp_path / NAMES[0].rpartition("/")[2])


def test_two_clients_of_the_same_work_do_not_harm_each_other(cars: Path, tmp_path: Path) -> None:
    words = [sys.executable, "parseVideo.py", str(cars / PATTERN), "--executor", "local", "--jobs", "1"]
    both = [subprocess.Popen([*words, "--output", str(tmp_path)], cwd=ROOT) for _ in range(2)]
    assert [one.wait(100) for one in both] == [0, 0]
    for name in NAMES:
        rows = photos.read_table(tmp_path / name)
        there = {path.relative_to(tmp_path / name).as_posix() for path in (tmp_path / name).rglob("*.jpg")}
        assert {row.photo for row in rows} == there
    assert not list(tmp_path.rglob(f"*{store.PART_SUFFIX}"))


def test_a_client_that_ends_takes_nothing_of_another_one_away(
    cars: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    book = tmp_path / "here" / "cameras.json"
    book.parent.mkdir()
    book.write_text("{}")
    monkeypatch.setenv("EDENCAR_OUTPUT", str(book.parent))
    settle = engine.Run._settle

    def settle_after_another(self: engine.Run, *arguments: object) -> None:
        monkeypatch.setattr(engine.Run, "_settle", settle)
        book.write_text('{"known": "more by now"}')
        assert fleet(cars / "car2" / "2026-11-*", tmp_path / "out") == 0
        settle(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(engine.Run, "_settle", settle_after_another)
    assert fleet(cars / "car1" / "2026-11-*", tmp_path / "out", "--jobs", 1) == 0


def test_notes_of_work_that_another_client_has_done_meanwhile_are_gone(cars: Path, tmp_path: Path) -> None:
    steps = VideoSteps(Settings(), WISH)
    (order,) = planning.find([str(cars / "car1" / "2026-*")], str(tmp_path), steps, {})
    late = tasks.prepare(order)
    assert isinstance(late, tasks.Prepared)
    names = [share.name for share in late.plan.shares]
    for share in late.plan.shares:
        assert tasks.make(order, share) is None
    done = tasks.finish(order, late.plan.head, names)
    assert tasks.make(order, late.plan.shares[0]) is None
    assert tasks.finish(order, late.plan.head, names) == json.loads(json.dumps(done, default=str))
    assert not list((tmp_path / "fleet").rglob("parts/*/*"))


def test_a_recording_that_kills_every_process_costs_only_itself(cars: Path, tmp_path: Path) -> None:
    shutil.copytree(cars, tmp_path / "in")
    (tmp_path / "in" / NAMES[1] / "videos" / "left" / "poison.txt").touch()
    steps = Poisonous(Settings(), WISH)
    orders = planning.find([str(tmp_path / "in" / PATTERN)], str(tmp_path / "out"), steps, {})
    with closing(engine.LocalPool(2)) as pool:
        going = engine.Run(orders, pool, lambda share: None)
        going.run()
    failed = [order.name for order, outcome in going.outcomes if not isinstance(outcome, dict)]
    assert failed == [NAMES[1]]
    assert len(going.outcomes) == 3


def test_processes_end_with_the_client(cars: Path, tmp_path: Path) -> None:
    words = [sys.executable, "parseVideo.py", str(cars / PATTERN), "--executor", "local", "--output", str(tmp_path)]
    with subprocess.Popen(words, cwd=ROOT) as client:
        wait_for(lambda: len(psutil.Process(client.pid).children(recursive=True)) > 1)
        children = psutil.Process(client.pid).children(recursive=True)
        client.kill()
        wait_for(lambda: not any(child.is_running() for child in children))


def test_a_spoilt_recording_costs_only_itself(cars: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(cars, tmp_path / "in")
    for path in (tmp_path / "in" / NAMES[1]).rglob("*.ts"):
        path.write_bytes(b"no film")
    assert fleet(tmp_path / "in" / PATTERN, tmp_path / "out") == 3
    told = capsys.readouterr().err.strip()
    assert NAMES[1] in told
    assert len(told.splitlines()) == 1
    assert "/edencar-" not in told, "no path that only one process knows"
    found = json.loads((tmp_path / "out" / "fleet" / "photos.json").read_text())
    assert found["totals"] == found["totals"] | {"done": 2, "failed": 1}
    assert "En échec" in (tmp_path / "out" / "fleet" / "photos.html").read_text()
    assert not (tmp_path / "out" / NAMES[1] / "photos.csv").exists()


def test_what_was_spoilt_on_its_way_is_told(cars: Path, s3: dict[str, str], tmp_path: Path) -> None:
    shutil.copytree(cars / NAMES[0], tmp_path / "2026-11-22_14-03-12")
    film = tmp_path / "2026-11-22_14-03-12" / "videos" / "left" / "stream-002.ts"
    film.write_bytes(film.read_bytes()[:-1] + b"\0")
    fill("s3://spoilt/in", tmp_path, s3)
    done = run("parseVideo.py", "s3://spoilt/in/2026-*", "--output", tmp_path / "out", **s3)
    assert done.code == 3
    assert "stream-002.ts is not what was recorded" in done.errors


def test_a_store_that_fails_now_and_then_is_asked_again(
    alone: dict[str, bytes], s3: dict[str, str], tmp_path: Path
) -> None:
    def fate(number: int, method: str, path: str) -> Fate:
        if number % 7 == 0:
            return "refuse"
        return "cut" if number % 11 == 0 and method == "GET" and "list-type" not in path else "pass"

    with bad_line(s3["AWS_ENDPOINT_URL"], fate) as address:
        bad = s3 | {"AWS_ENDPOINT_URL": address}
        made = run("parseVideo.py", "s3://fleet/in/car1/2026-*", "--output", tmp_path, **bad)
    assert made.code == 0, made.errors
    same = tree(tmp_path / "2026-11-22_14-03-12")
    assert [name for name in same if name.endswith(".jpg") and same[name] != alone[name]] == []
    assert len(photos.read_table(tmp_path / "2026-11-22_14-03-12")) == len([n for n in alone if n.endswith(".jpg")])


def test_a_store_that_always_fails_is_told_in_one_line(s3: dict[str, str], tmp_path: Path) -> None:
    with bad_line(s3["AWS_ENDPOINT_URL"], lambda number, method, path: "refuse") as address:
        bad = s3 | {"AWS_ENDPOINT_URL": address}
        made = run("parseVideo.py", "s3://fleet/in/car1/2026-*", "--output", tmp_path, **bad)
    assert made.code == 7
    assert len(made.errors.splitlines()) == 1
    assert "s3://fleet/in/car1" in made.errors
    assert "tries" in made.errors


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["nowhere/*", "--executor", "local"], 2, "no recording matches"),
        (["nowhere/*", "--executor", "spark://x"], 2, "say local, or dask://HOST:PORT"),
        (["CARS/*/2026-*", "--executor", "spark://x", "--dry-run"], 2, "say local, or dask://HOST:PORT"),
        (["CARS/*/2026-*", "--executor", "dask://127.0.0.1:1"], 6, "no Dask scheduler answers"),
        (["s3://*"], 2, "no part without wildcards"),
        (["s3:/bucket/*"], 2, "say s3://bucket"),
        (["CARS/*/2026-*", "--executor", "dask://127.0.0.1", "--dry-run"], 2, "no HOST:PORT"),
        (["nosuch://bucket/*"], 2, "no store is called nosuch://"),
        (["CARS/*/2026-*", "--executor", "local", "--start-utc", "2026-11-22T14:03:12Z"], 2, "many recordings"),
        (["CARS/car1/2026-*", "CARS/car2/2026-11-22*", "--executor", "local", "--output", "OUT"], 2, "same results"),
    ],
)
def test_bad_input_is_told_in_one_line(
    words: list[str], code: int, says: str, cars: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [word.replace("CARS", str(cars)).replace("OUT", str(tmp_path / "out")) for word in words]
    assert parseVideo.main(words) == code
    told = capsys.readouterr().err
    assert says in told
    assert len(told.splitlines()) == 1


def test_the_sessions_of_the_server_go_to_no_store(tmp_path: Path) -> None:
    for name in ("cameras.json", "delays.json", ".sessions.json"):
        (tmp_path / name).write_text("{}")
    assert set(command.pack(Settings(output=tmp_path), {})) == {"cameras.json", "delays.json"}


def test_photos_of_a_fleet_keep_their_place(cars: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert parsePhotos.main([str(cars / PATTERN), "--executor", "local", "--in-place"]) == 2
    assert "keep their photos where they are" in capsys.readouterr().err


def test_without_its_packages_a_fleet_is_refused_and_nothing_else_changes(cars: Path, tmp_path: Path) -> None:
    code = (
        "import sys, runpy\n"
        "for name in ('fsspec', 's3fs', 'dask', 'distributed'): sys.modules[name] = None\n"
        f"sys.path.insert(0, {str(ROOT)!r}); sys.argv = sys.argv[1:]\n"
        f"runpy.run_path({str(ROOT)!r} + '/' + sys.argv[0], run_name='__main__')"
    )
    words = [sys.executable, "-c", code, "parseVideo.py", str(cars / NAMES[0]), "--output", str(tmp_path)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    done = subprocess.run([*words, "--executor", "local"], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert done.stderr.strip().endswith("fsspec is not installed: pip install -r requirements-fleet.txt")


def test_a_recording_that_is_still_being_uploaded_is_none(cars: Path, tmp_path: Path) -> None:
    shutil.copytree(cars / NAMES[0], tmp_path / "2026-11-22_14-03-12")
    (tmp_path / "2026-11-22_14-03-12" / "recording.json").unlink()
    steps = VideoSteps(Settings(), WISH)
    with pytest.raises(UsageError, match="no recording matches"):
        planning.find([str(tmp_path / "2026-*")], "", steps, {})


def test_a_process_that_is_killed_is_replaced_and_its_step_done_again(cars: Path, tmp_path: Path) -> None:
    steps = Suicidal(Settings(), WISH, trap=tmp_path / "trap")
    orders = planning.find([str(cars / "car1" / "2026-*")], str(tmp_path / "out"), steps, {})
    told: list[float] = []
    with closing(engine.LocalPool(1)) as pool:
        going = engine.Run(orders, pool, told.append)
        going.run()
    assert (told[0], told[-1]) == (0.0, 1.0)
    assert told == sorted(told)
    ((_, outcome),) = going.outcomes
    assert isinstance(outcome, dict), outcome
    assert outcome["photos"] == len(list((tmp_path / "out").rglob("*.jpg"))) > 0
    assert (tmp_path / "trap").exists()


@pytest.mark.long
@pytest.mark.timeout(900)
def test_workers_that_are_killed_20_times_lose_and_double_nothing(
    cars: Path, alone: dict[str, bytes], s3: dict[str, str], tmp_path: Path
) -> None:
    dice = np.random.default_rng(1)
    names = [f"car/2026-11-{day:02d}_10-00-00" for day in range(1, 25)]
    for name in names:
        shutil.copytree(cars / NAMES[0], tmp_path / "in" / name)
    fill("s3://killed/in", tmp_path / "in", s3)
    kills = 0
    with dask_cluster(tmp_path, 2, **s3) as cluster:
        for round_number in range(20):
            output = f"s3://killed/out{round_number}"
            words = ["parseVideo.py", "s3://killed/in/*/2026-*", "--output", output, "--json"]
            command = [sys.executable, *words, "--executor", cluster.executor]
            with subprocess.Popen(command, cwd=ROOT, env=os.environ | s3, stdout=subprocess.PIPE) as running:
                while running.poll() is None and kills < 20:
                    time.sleep(dice.uniform(0.5, 4.0))
                    victims = psutil.Process(cluster.workers[dice.integers(2)].pid).children()
                    if victims and running.poll() is None:
                        victims[-1].kill()
                        kills += 1
                said = json.loads(running.communicate()[0])
            assert running.returncode == 0, said
            assert said["photos"] == len(names) * sum(name.endswith(".jpg") for name in alone)
            made = tree(empty(output, tmp_path / f"out{round_number}", s3))
            for name in names:
                mine = {path.removeprefix(f"{name}/"): data for path, data in made.items() if path.startswith(name)}
                assert {path for path in mine if path.endswith(".jpg")} == {p for p in alone if p.endswith(".jpg")}
                assert all(mine[path] == alone[path] for path in mine if path.endswith(".jpg"))
            assert not any("/parts/" in path for path in made)
            if kills >= 20:
                break
    assert kills >= 20
