"""A small fleet for tests: recordings of two files, an S3 server, a Dask cluster of real processes."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rig.clock import iso_utc
from rig.cluster.tasks import fingerprint
from rig.drive import checksums
from rig.recordings import FINISHED, VIDEO, RecordedCamera, Recordings
from simulator.phone import Phone
from tests.films import BEGIN_NS, TICKS_PER_FRAME, steady, write_film, write_index
from tests.machine import free_port, wait_for

ROOT = Path(__file__).parents[2]
NAMES = ("car1/2026-11-22_14-03-12", "car2/2026-11-22_14-03-12", "car2/2026-11-23_09-00-00")  # of the recordings
PATTERN = "*/2026-11-*"
FIRST, SECOND = 75, 45  # pictures of the two files
CALM = {  # Dask looks at itself less often: docs/fleet.md
    "DASK_DISTRIBUTED__ADMIN__TICK__INTERVAL": "1s",
    "DASK_DISTRIBUTED__ADMIN__SYSTEM_MONITOR__INTERVAL": "5s",
    "DASK_DISTRIBUTED__WORKER__PROFILE__ENABLED": "False",
}
PHONE = Phone(shown=((BEGIN_NS, BEGIN_NS + 2_000_000_000),))


def write_recording(output: Path, size: tuple[int, int] = (320, 180)) -> Path:
    """A finished recording of one camera: two segments of a stream with a code at its beginning, and positions."""
    recordings = Recordings(output)
    manifest = recordings.create(BEGIN_NS, VIDEO, cameras=(RecordedCamera("C3501324500711", "HERO11", "", "left"),))
    folder = output / manifest.id
    left = folder / "videos" / "left"
    left.mkdir(parents=True)
    write_film(left / "stream-001.ts", steady(FIRST), phone=PHONE, size=size)
    write_film(left / "stream-002.ts", steady(SECOND, first=FIRST * TICKS_PER_FRAME), phone=PHONE, size=size)
    for path in sorted(left.glob("*.ts")):
        write_index(path, BEGIN_NS)
    (folder / "positions").mkdir()
    lines = (f"{BEGIN_NS + n * 200_000_000},{47 + n * 2e-5},-1.5,60.0,4,11.1,0.0\n" for n in range(-10, 40))
    header = "utc_ns,latitude,longitude,altitude_m,quality,speed_mps,course_deg\n"
    (folder / "positions" / "positions.csv").write_text(header + "".join(lines))
    recordings.update(manifest.id, state=FINISHED, stopped=iso_utc(BEGIN_NS + 4_000_000_000))
    checksums.seal(recordings, manifest.id)
    return folder


@contextmanager
def process(*words: object, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process that is gone afterwards."""
    running = subprocess.Popen(
        [str(word) for word in words],
        cwd=ROOT,
        env=os.environ | environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield running
    finally:
        running.terminate()
        try:
            running.wait(10)
        except subprocess.TimeoutExpired:
            running.kill()
            running.wait()


def answers(port: int) -> bool:
    """Whether somebody listens at a TCP port."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@dataclass(frozen=True)
class Done:
    """What a command said."""

    code: int
    said: dict[str, Any]
    errors: str


def run(script: str | Sequence[str], *words: object, **environment: str) -> Done:
    """A command of ours with --json, in a process of its own; `script` is what Python is told to run."""
    program = script.split() if isinstance(script, str) else script
    command = [sys.executable, *program, *map(str, words), "--json"]
    surroundings = os.environ | environment
    done = subprocess.run(command, cwd=ROOT, env=surroundings, capture_output=True, text=True, check=False)
    return Done(done.returncode, json.loads(done.stdout or "{}"), done.stderr)


def tree(folder: Path) -> dict[str, bytes]:
    """All files of a folder."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@contextmanager
def s3_server() -> Iterator[dict[str, str]]:
    """An S3 server of others on loopback; the environment in which it is found."""
    port = free_port()
    with process(sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", port):
        wait_for(lambda: answers(port))
        yield {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_DEFAULT_REGION": "us-east-1",
        }


@dataclass(frozen=True)
class Cluster:
    """A Dask cluster: its address as `--executor` wants it, and its processes."""

    executor: str
    scheduler: subprocess.Popen[bytes]
    workers: list[subprocess.Popen[bytes]]


@contextmanager
def dask_scheduler(folder: Path) -> Iterator[Cluster]:
    """A scheduler without workers."""
    told = folder / "scheduler.json"
    words = ["-m", "distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard"]
    patient = {"DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "20"}  # of the workers that had a task and died
    with process(sys.executable, *words, "--scheduler-file", told, **patient, **CALM) as scheduler:
        wait_for(lambda: told.exists() and told.read_text().rstrip().endswith("}"))  # it is written in pieces
        yield Cluster(f"dask://{json.loads(told.read_text())['address'].removeprefix('tcp://')}", scheduler, [])


@contextmanager
def dask_cluster(folder: Path, workers: int, **environment: str) -> Iterator[Cluster]:
    """A scheduler and workers, each a process of its own."""
    with dask_scheduler(folder) as cluster, ExitStack() as stack:
        one = [sys.executable, "-m", "distributed.cli.dask_worker", "--nworkers", "1", "--nthreads", "1"]
        place = ["--local-directory", folder, "--no-dashboard", "--scheduler-file", folder / "scheduler.json"]
        surroundings = environment | CALM | {"PYTHONPATH": str(ROOT), "TMPDIR": str(folder)}
        for _ in range(workers):
            cluster.workers.append(stack.enter_context(process(*one, *place, **surroundings)))
        wait_for(lambda: workers_at(cluster.executor.removeprefix("dask://")) == workers)
        yield cluster


def strange_fingerprint() -> str:
    """That of the program; but the first worker with a trap that is asked for it dies, or says another one."""
    if trap := os.environ.get("FINGERPRINT_TRAP"):
        with suppress(FileExistsError):
            Path(trap).touch(exist_ok=False)  # by one of those who are asked at the same moment
            if "FINGERPRINT" not in os.environ:
                os._exit(1)
            return os.environ["FINGERPRINT"]
    return fingerprint()


def workers_at(address: str) -> int:
    """How many workers a scheduler has, asked in a process of its own: its client leaves threads behind."""
    ask = f"from distributed import Client; print(len(Client('tcp://{address}').scheduler_info()['workers']))"
    done = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, timeout=30, check=False)
    return int(done.stdout or 0)
