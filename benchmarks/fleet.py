"""A fleet's recordings on Dask workers and an S3 server, all on this machine: two workers against one, in one run.

24 recordings of 4K, 30 pictures a second, H.264, 30 Mbit/s, 20 s each, lie in a bucket of moto's S3 server; two workers
must be 1.8 times as fast as one, and the results of both must be the bytes of the run on local processes. The S3 server
takes its share of the two cores, too. Then 10,000 small recordings are planned (`--dry-run`): within 10 s and 1 GB.
"""

import argparse
import asyncio
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

from rig.clock import iso_utc
from rig.drive import checksums
from rig.recordings import FINISHED, VIDEO, Recordings
from simulator.phone import Phone
from tests.cluster.parts import dask_cluster, s3_server, tree
from tests.cluster.stores import empty, fill
from tests.films import BEGIN_NS, TICKS_PER_FRAME, steady, write_film

RECORDINGS = 24
FILM_S, SEGMENTS = 20, 2
PLANNED = 10_000
FASTER = 1.8
MOST_PLAN_S, MOST_PLAN_MB = 10.0, 1000.0
AT_ONCE = 200


def main() -> int:
    """Print the figures; 1 when a promise does not hold."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    print(
        f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, Python {sys.version.split()[0]}"
    )
    with tempfile.TemporaryDirectory() as name, s3_server() as s3:
        folder = Path(name)
        size = _fill_bucket(folder, s3)
        print(f"{RECORDINGS} recordings, {FILM_S} s of 4K each, {size / 1e6:.0f} MB")
        local = folder / "local"
        _run([str(folder / "in" / "*"), "--output", str(local), "--executor", "local"], s3)
        seconds, cores = {}, {}
        for workers in (1, 2):
            made = folder / f"made{workers}"
            seconds[workers], cores[workers], most_mb = _with_workers(workers, folder, s3)
            empty(f"s3://fleet/out{workers}", made, s3)
            same = _photos(made) == _photos(local)
            print(
                f"{workers} workers: {seconds[workers]:.1f} s, {cores[workers]:.0f} core-seconds of theirs, "
                f"at most {most_mb:.0f} MB each, "
                f"{'the same bytes' if same else 'OTHER BYTES'} as local processes"
            )
            if not same:
                return 1
        hours = RECORDINGS * FILM_S / 3600
        sizes = [len(data) for name, data in _photos(made).items() if name.endswith(".jpg")]
        print(
            f"for an hour of video: {cores[1] / hours:.0f} core-seconds, {len(sizes) / hours:.0f} photos"
            f" of {sum(sizes) / len(sizes) / 1e6:.2f} MB"
        )
        faster = seconds[1] / seconds[2]
        print(f"two workers are {faster:.2f} times as fast as one (at least {FASTER})")
        plan_s, plan_mb = _plan(s3)
        print(
            f"{PLANNED} recordings planned in {plan_s:.1f} s and {plan_mb:.0f} MB"
            f" (at most {MOST_PLAN_S:g} s, {MOST_PLAN_MB:g} MB)"
        )
        return int(faster < FASTER or plan_s > MOST_PLAN_S or plan_mb > MOST_PLAN_MB)


def _fill_bucket(folder: Path, s3: dict[str, str]) -> int:
    """The same recording under many names, in a folder and in the bucket; its bytes."""
    recordings = Recordings(folder / "one")
    manifest = recordings.create(BEGIN_NS, VIDEO)
    place = folder / "one" / manifest.id
    (place / "videos" / "left").mkdir(parents=True)
    phone = Phone(shown=((BEGIN_NS, BEGIN_NS + 2_500_000_000),))
    pictures = FILM_S * 30 // SEGMENTS
    for number in range(SEGMENTS):
        path = place / "videos" / "left" / f"stream-{number + 1:03d}.ts"
        options = {"g": "15", "bf": "0", "b": "30M", "preset": "ultrafast"}
        ticks = steady(pictures, first=number * pictures * TICKS_PER_FRAME)
        write_film(path, ticks, phone=phone, size=(3840, 2160), options=options)
    recordings.update(manifest.id, state=FINISHED, stopped=iso_utc(BEGIN_NS + FILM_S * 1_000_000_000))
    checksums.seal(recordings, manifest.id)
    for day in range(1, RECORDINGS + 1):
        shutil.copytree(place, folder / "in" / f"2026-11-{day:02d}_10-00-00", copy_function=os.link)
    fill("s3://fleet/in", folder / "in", s3)
    return sum(path.stat().st_size for path in (folder / "in").rglob("*.ts"))


def _run(words: list[str], s3: dict[str, str]) -> dict[str, object]:
    command = [sys.executable, "parseVideo.py", *words, "--json"]
    done = subprocess.run(command, env=os.environ | s3, check=True, stdout=subprocess.PIPE)
    said: dict[str, object] = json.loads(done.stdout)
    return said


def _with_workers(count: int, folder: Path, s3: dict[str, str]) -> tuple[float, float, float]:
    """Wall seconds of the command, processor seconds of the workers, the most memory of one."""
    place = folder / f"cluster{count}"
    place.mkdir()
    with dask_cluster(place, count, **s3) as cluster:
        workers = [child for nanny in cluster.workers for child in psutil.Process(nanny.pid).children()]
        before = sum(sum(worker.cpu_times()[:2]) for worker in workers)
        begin = time.monotonic()
        _run(["s3://fleet/in/2026-*", "--output", f"s3://fleet/out{count}", "--executor", cluster.executor], s3)
        seconds = time.monotonic() - begin
        spent = sum(sum(worker.cpu_times()[:2]) for worker in workers) - before
        return seconds, spent, max(_peak_mb(worker.pid) for worker in workers)


def _peak_mb(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    return next(int(line.split()[1]) / 1000 for line in status.splitlines() if line.startswith("VmHWM"))


def _photos(folder: Path) -> dict[str, bytes]:
    """All results but the notes of a fleet, which name their addresses."""
    return {name: data for name, data in tree(folder).items() if not name.startswith("fleet/")}


def _plan(s3: dict[str, str]) -> tuple[float, float]:
    """Seconds and the most memory of a dry run over many recordings."""
    code = f"from benchmarks.fleet import put_many; put_many({PLANNED})"
    subprocess.run([sys.executable, "-c", code], env=os.environ | s3, check=True)
    command = [sys.executable, "parseVideo.py", "s3://many/*/2026-*", "--dry-run", "--executor", "local"]
    code = (
        "import resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True, stdout=sys.stderr);"
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    )
    begin = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", code, *command], env=os.environ | s3, check=True, stdout=subprocess.PIPE
    )
    return time.monotonic() - begin, int(done.stdout) / 1000


def put_many(count: int) -> None:
    """Recordings of four tiny objects each."""
    import s3fs  # it leaves threads behind: only in a process of its own

    async def put() -> None:
        store = s3fs.S3FileSystem(asynchronous=True)
        session = await store.set_session()
        await session.create_bucket(Bucket="many")
        names = ("recording.json", "checksums.sha256", "videos/left/stream-001.ts", "positions/positions.csv")
        keys = [f"car{number % 50}/2026-11-{number // 50:05d}/{name}" for number in range(count) for name in names]
        for begin in range(0, len(keys), AT_ONCE):
            some = keys[begin : begin + AT_ONCE]
            await asyncio.gather(*(session.put_object(Bucket="many", Key=key, Body=b"x" * 100) for key in some))

    asyncio.run(put())


if __name__ == "__main__":
    raise SystemExit(main())
