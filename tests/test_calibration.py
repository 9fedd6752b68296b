"""Which clock a video gets, end to end on drawn films: exact where it can be, never a wrong one."""

import json
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from configs import Settings
from rig.arrays import Int64
from rig.camera.camerabook import Delay, load_delays, store_delays
from rig.clock import DAY_NS, NS_PER_S, UtcClock, iso_utc
from rig.errors import NoCalibrationError
from rig.footage import video
from rig.footage.video import Clip, Video
from rig.recordings import MANIFEST, Manifest, RecordedCamera
from rig.timing import calibration, rates
from rig.timing.calibration import Context
from rig.timing.cameraclock import Anchor, CameraClock
from simulator.phone import Phone
from tests.films import write_index
from tests.screens import Light, Shown, write_screens

BEGIN_NS = 1_795_356_192_000_000_000  # 2026-11-22T14:03:12Z
LATENCY_MS = 35.0
PHONE = Phone(refresh_hz=60.03, phase_ns=BEGIN_NS + 3_141_592, latency_ms=LATENCY_MS, scan_out_ms=0.0)
LEFT, RIGHT = (40, 90), (380, 90)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(output=tmp_path, display_latency_ms=LATENCY_MS, display_latency_error_ms=1.0, read_out_ms=0.0)


def write_log(
    folder: Path, phone: Phone, seconds: float = 3.0, bound_ms: float = 0.7, pi_offset_ns: int = BEGIN_NS
) -> None:
    """A page's draw log as the server keeps it; its last line is torn. CLOCK_MONOTONIC began at `BEGIN_NS`."""
    (folder / "codes").mkdir(exist_ok=True)
    draws = [
        [code.refresh, int(code.payload[:14])]
        for code in phone.drawn(BEGIN_NS - NS_PER_S, BEGIN_NS + round(seconds * NS_PER_S))
    ]
    post = {"page": "a1", "user_agent": "Phone/1", "refresh_hz": 60.0, "offset_bound_ms": bound_ms, "missed": 0}
    post["pi_offset_ns"] = pi_offset_ns
    lines = [json.dumps({**post, "draws": draws[i : i + 30]}) for i in range(0, len(draws), 30)]
    (folder / "codes" / "a1.jsonl").write_text("\n".join([*lines, '{"page": "a1", "dra']))


def write_epochs(folder: Path) -> None:
    """What a receiver told of the time; CLOCK_MONOTONIC began at `BEGIN_NS`."""
    (folder / "positions").mkdir()
    rows = [f"{BEGIN_NS + second * NS_PER_S},{second * NS_PER_S}" for second in range(10)]
    (folder / "positions" / "positions.csv").write_text("\n".join(["utc_ns,arrival_monotonic_ns", *rows]))


def record(folder: Path, started_ns: int = BEGIN_NS, serial: str = "C1", source: str = "gnss") -> None:
    """A recording's manifest of a camera in the folder `left`."""
    manifest = Manifest(
        id="2026-11-22_14-03-12",
        mode="video",
        state="finished",
        started=iso_utc(started_ns),
        stopped=iso_utc(started_ns + 10 * NS_PER_S),
        cameras=(RecordedCamera(serial, "HERO12 Black", "10.0.0.1", "left"),),
        clock=UtcClock(BEGIN_NS, 0, 100_000, source),
    )
    (folder / MANIFEST).write_bytes(manifest.to_json())


def clock_of(path: Path, settings: Settings, folder: Path | None = None) -> CameraClock:
    (item,) = video.find_videos([path], "left")
    return calibration.camera_clock(item, Context.of(folder) if folder else Context(), settings)


def error_ms(clock: CameraClock) -> tuple[float, float]:
    """The clock's error 1.5 s after the beginning, and its bar."""
    at = np.array([1_500_000_000], dtype=np.int64)
    return (int(clock.utc_ns(at)[0]) - BEGIN_NS - 1_500_000_000) / 1e6, int(clock.error_ns(at)[0]) / 1e6


@pytest.mark.parametrize("logged", [False, True], ids=["no log", "log"])
def test_the_vernier_is_ten_times_finer_than_the_interval(tmp_path: Path, settings: Settings, logged: bool) -> None:
    write_screens(tmp_path / "a.mp4", [Shown(PHONE, *LEFT)], BEGIN_NS)
    if logged:
        write_log(tmp_path, PHONE)
    clock = clock_of(tmp_path / "a.mp4", settings, tmp_path)
    error, bar = error_ms(clock)
    assert clock.anchors[0].method == "vernier"
    assert clock.anchors[0].mixed >= 5
    assert abs(error) < 0.3
    assert bar < 3.0


def test_without_mixed_pictures_the_interval_stands(tmp_path: Path, settings: Settings) -> None:
    half_way = replace(PHONE, refresh_hz=50.0, phase_ns=BEGIN_NS - 35_000_000 + 10_000_000)  # changes between exposures
    write_screens(tmp_path / "a.mp4", [Shown(half_way, *LEFT)], BEGIN_NS)
    clock = clock_of(tmp_path / "a.mp4", settings)
    error, bar = error_ms(clock)
    assert clock.anchors[0].method == "interval"
    assert abs(error) <= bar


@pytest.mark.parametrize("logged", [False, True], ids=["no log", "log"])
@pytest.mark.parametrize("fps", [25.0, 30000 / 1001])
def test_a_page_that_skips_refreshes_gives_no_wrong_time(
    tmp_path: Path, settings: Settings, fps: float, logged: bool
) -> None:
    janky = replace(PHONE, skip_share=0.25)
    write_screens(tmp_path / "a.mp4", [Shown(janky, *LEFT)], BEGIN_NS, fps=fps)
    if logged:
        write_log(tmp_path, janky)
    error, bar = error_ms(clock_of(tmp_path / "a.mp4", settings, tmp_path))
    assert abs(error) <= bar


def test_a_hand_that_shakes_gives_no_wrong_time(tmp_path: Path, settings: Settings) -> None:
    write_screens(tmp_path / "a.mp4", [Shown(PHONE, *LEFT, sway_px=14)], BEGIN_NS)
    error, bar = error_ms(clock_of(tmp_path / "a.mp4", settings))
    assert abs(error) <= bar <= 4


def glare(picture: Light, number: int) -> None:
    rows, columns = np.indices(picture.shape)
    away = (rows - 140 - number % 7) ** 2 + (columns - 90) ** 2
    picture += 2.0 * np.exp(-away / 35.0**2)


def test_a_code_half_in_glare_gives_no_wrong_time(tmp_path: Path, settings: Settings) -> None:
    write_screens(tmp_path / "a.mp4", [Shown(PHONE, *LEFT)], BEGIN_NS, spoil=glare)
    try:
        error, bar = error_ms(clock_of(tmp_path / "a.mp4", settings))
    except NoCalibrationError:
        return
    assert abs(error) <= bar


def wrong_check(payload: str) -> str:
    return payload[:15] + f"{(int(payload[15:]) + 1) % 97:02d}"


def later(offset_ns: int, phone: Phone = PHONE) -> Phone:
    """The same phone, believing it to be later: another clock, or a code of another day."""
    return replace(phone, to_pi_ns=offset_ns, phase_ns=phone.phase_ns + 5_000_000)


def test_a_wrong_check_digit_is_no_code(tmp_path: Path, settings: Settings) -> None:
    write_screens(tmp_path / "a.mp4", [Shown(PHONE, *LEFT, payload=wrong_check)], BEGIN_NS)
    with pytest.raises(NoCalibrationError, match="no time code"):
        clock_of(tmp_path / "a.mp4", settings)


def test_two_clocks_in_one_film_are_told_and_not_mixed(tmp_path: Path, settings: Settings) -> None:
    write_screens(tmp_path / "a.mp4", [Shown(PHONE, *LEFT), Shown(later(700_000_000), *RIGHT)], BEGIN_NS)
    with pytest.raises(NoCalibrationError, match="two clocks"):
        clock_of(tmp_path / "a.mp4", settings)


@pytest.mark.parametrize("offset_ns", [700_000_000, 20_000_000, -60 * NS_PER_S])
def test_of_two_clocks_the_one_that_drew_the_log_is_taken(tmp_path: Path, settings: Settings, offset_ns: int) -> None:
    write_screens(tmp_path / "a.mp4", [Shown(later(offset_ns), *LEFT), Shown(PHONE, *RIGHT)], BEGIN_NS)
    write_log(tmp_path, PHONE)
    error, bar = error_ms(clock_of(tmp_path / "a.mp4", settings, tmp_path))
    assert abs(error) <= bar <= 4


def test_of_two_clocks_the_one_of_the_recording_is_taken(tmp_path: Path, settings: Settings) -> None:
    write_screens(tmp_path / "a.mp4", [Shown(later(-DAY_NS), *LEFT), Shown(PHONE, *RIGHT)], BEGIN_NS)
    record(tmp_path)
    error, bar = error_ms(clock_of(tmp_path / "a.mp4", settings, tmp_path))
    assert abs(error) <= bar <= 4


def test_two_screens_of_one_clock_widen_the_bar(tmp_path: Path, settings: Settings) -> None:
    unknown = replace(settings, display_latency_error_ms=25.0)
    slower = replace(PHONE, latency_ms=LATENCY_MS + 15, phase_ns=PHONE.phase_ns + 5_000_000)
    write_screens(tmp_path / "a.mp4", [Shown(PHONE, *LEFT), Shown(slower, *RIGHT)], BEGIN_NS)
    clock = clock_of(tmp_path / "a.mp4", unknown)
    assert clock.anchors[0].half_width_ns > 7_000_000
    error, bar = error_ms(clock)
    assert abs(error) <= bar


@pytest.mark.parametrize("hours", [-24, -1, 20])
def test_a_code_of_another_drive_on_a_screen_is_refused(tmp_path: Path, settings: Settings, hours: int) -> None:
    write_screens(tmp_path / "a.mp4", [Shown(later(hours * 3600 * NS_PER_S), *LEFT)], BEGIN_NS)
    record(tmp_path)
    with pytest.raises(NoCalibrationError, match="no time code"):
        clock_of(tmp_path / "a.mp4", settings, tmp_path)


@pytest.mark.parametrize("hours", [-20, 20])
def test_a_code_that_nobody_vouches_for_has_a_bar_that_holds_the_pi_as_well(
    tmp_path: Path, settings: Settings, hours: int
) -> None:
    """Without a receiver either the Pi is wrong, as its clock does not survive the night, or the code is old."""
    record(tmp_path, source="system")
    path = stream(tmp_path, [Shown(later(hours * 3600 * NS_PER_S), *LEFT)], delay_ms=310)
    clock = clock_of(path, settings, tmp_path)
    error, bar = error_ms(clock)
    assert abs(error) == pytest.approx(abs(hours) * 3600e3, abs=10)
    assert abs(error) <= bar <= abs(error) + 4000
    assert any("Pi's own clock" in text for text in clock.warnings)
    (item,) = video.find_videos([path], "left")
    calibration.learn([(item, clock)], Context.of(tmp_path), settings)
    assert load_delays(tmp_path) == {}


def test_without_a_receiver_the_page_that_this_pi_served_is_believed(tmp_path: Path, settings: Settings) -> None:
    record(tmp_path, source="system")
    path = stream(tmp_path, [Shown(PHONE, *LEFT)], delay_ms=310)
    write_log(tmp_path, PHONE)
    error, bar = error_ms(clock_of(path, settings, tmp_path))
    assert abs(error) <= bar <= 4
    (tmp_path / "codes" / "a1.jsonl").unlink()  # its posts were lost: the Pi's clock still agrees
    error, bar = error_ms(clock_of(path, settings, tmp_path))
    assert abs(error) <= bar <= 4


@pytest.mark.parametrize("logged", [False, True], ids=["opened as a file", "drawn before the receiver had a fix"])
@pytest.mark.parametrize("seconds", [-5, 5])
def test_with_a_receiver_a_stream_refuses_the_code_of_a_clock_that_is_wrong(
    tmp_path: Path, settings: Settings, seconds: int, logged: bool
) -> None:
    record(tmp_path)
    wrong = later(seconds * NS_PER_S)
    path = stream(tmp_path, [Shown(wrong, *LEFT)], delay_ms=310)
    if logged:
        write_log(tmp_path, wrong)
    clock = clock_of(path, settings, tmp_path)
    error, bar = error_ms(clock)
    assert clock.source == "arrival"
    assert abs(error) <= bar <= 160


@pytest.mark.parametrize("wrong_ms", [-1500, 300, 250_000])
def test_a_code_drawn_before_the_pi_knew_the_time_counts_as_if_it_had(
    tmp_path: Path, settings: Settings, wrong_ms: int
) -> None:
    """Its clock of the morning was nearly right, too near for the code to be refused; then its receiver had a fix."""
    record(tmp_path)
    write_epochs(tmp_path)
    wrong_ns = wrong_ms * 1_000_000
    wrong = later(wrong_ns)
    path = tmp_path / "a.mp4"
    write_screens(path, [Shown(wrong, *LEFT)], BEGIN_NS)
    write_log(tmp_path, wrong, seconds=wrong_ms / 1000 + 3, pi_offset_ns=BEGIN_NS + wrong_ns)
    error, bar = error_ms(clock_of(path, settings, tmp_path))
    assert abs(error) <= bar <= 20


@pytest.mark.parametrize("made", ["2026-11-24T15:00:00Z", "2026-11-23T14:03:12Z"])
def test_a_file_that_says_when_it_was_made_refuses_a_code_of_another_day(
    tmp_path: Path, settings: Settings, made: str
) -> None:
    write_screens(tmp_path / "a.mp4", [Shown(PHONE, *LEFT)], BEGIN_NS, metadata={"creation_time": made})
    with pytest.raises(NoCalibrationError, match="no time code"):
        clock_of(tmp_path / "a.mp4", settings)


def test_the_page_and_its_bound_are_in_the_calibration(tmp_path: Path, settings: Settings) -> None:
    write_screens(tmp_path / "a.mp4", [Shown(PHONE, *LEFT)], BEGIN_NS, seconds=1.0)
    write_log(tmp_path, PHONE, bound_ms=0.7)
    (item,) = video.find_videos([tmp_path / "a.mp4"], "left")
    context = Context.of(tmp_path)
    clock = calibration.camera_clock(item, context, settings)
    assert dict(clock.constants) == {"display_latency": 1_000_000, "page": 700_000}
    values = calibration.table([(item, clock)], context.logs)["left"]
    assert values["pages"] == [{"page": "a1", "user_agent": "Phone/1", "offset_bound_ms": 0.7}]


def stream(folder: Path, screens: Sequence[Shown], delay_ms: float, seconds: float = 3.0) -> Path:
    """A stream recorded here, every picture of which took the same time; CLOCK_MONOTONIC began at BEGIN."""
    path = folder / "videos" / "left" / "stream-001.ts"
    path.parent.mkdir(parents=True)
    write_screens(path, screens, BEGIN_NS, seconds=seconds, first_pts_s=1.4)
    write_index(path, round(delay_ms * 1e6))
    return path


def test_a_stream_without_a_code_is_dated_by_its_arrival(tmp_path: Path, settings: Settings) -> None:
    record(tmp_path)
    path = stream(tmp_path, [], delay_ms=310)
    clock = clock_of(path, settings, tmp_path)
    error, bar = error_ms(clock)
    assert clock.source == "arrival"
    assert abs(error) == pytest.approx(80, abs=1)
    assert 150 <= bar <= 160
    store_delays(settings.output, {"C1": Delay(305.0, 4.0, 60, "2026-11-21T08:00:00Z")})
    error, bar = error_ms(clock_of(path, settings, tmp_path))
    assert abs(error) == pytest.approx(5, abs=1)
    assert 10 <= bar <= 35


def test_a_stream_with_a_code_teaches_its_delay(tmp_path: Path, settings: Settings) -> None:
    record(tmp_path)
    (item,) = video.find_videos([stream(tmp_path, [Shown(PHONE, *LEFT)], delay_ms=310)], "left")
    context = Context.of(tmp_path)
    calibration.learn([(item, calibration.camera_clock(item, context, settings))], context, settings)
    delay = load_delays(tmp_path)["C1"]
    assert delay.delay_ms == pytest.approx(310, abs=1)
    assert 1 <= delay.codes <= 80
    assert rates.load(tmp_path) == {}


def test_the_delay_that_is_learnt_does_not_drift_with_the_pis_own_clock(tmp_path: Path, settings: Settings) -> None:
    """The manifest's clock may be of the end of a drive, when this machine's had gained 72 ms."""
    record(tmp_path)
    path = tmp_path / MANIFEST
    manifest = Manifest.from_json(path.read_bytes())
    late = UtcClock(BEGIN_NS - 72_000_000, 3600 * NS_PER_S, 100_000, "gnss")
    path.write_bytes(replace(manifest, clock=late).to_json())
    write_epochs(tmp_path)
    (item,) = video.find_videos([stream(tmp_path, [Shown(PHONE, *LEFT)], delay_ms=310, seconds=1.5)], "left")
    context = Context.of(tmp_path)
    calibration.learn([(item, calibration.camera_clock(item, context, settings))], context, settings)
    assert load_delays(tmp_path)["C1"].delay_ms == pytest.approx(310, abs=2)


def two_films(path: Path, rate_ppm: float) -> CameraClock:
    from rig.timing.timeline import line
    from tests.readings import TERMS

    anchors = tuple(
        Anchor(pts, BEGIN_NS + pts + round(pts * rate_ppm * 1e-6), 500_000, 70, 0)
        for pts in (NS_PER_S, 3600 * NS_PER_S)
    )
    return line(anchors, TERMS)


def test_a_rate_found_once_narrows_the_bar_of_a_later_drive(tmp_path: Path, settings: Settings) -> None:
    record(tmp_path)
    write_screens(tmp_path / "a.mp4", [Shown(PHONE, *LEFT)], BEGIN_NS, seconds=1.5)
    (item,) = video.find_videos([tmp_path / "a.mp4"], "left")
    calibration.learn([(item, two_films(tmp_path, 31.0))], Context.of(tmp_path), settings)
    assert rates.load(tmp_path)["C1"] == pytest.approx(31, abs=0.5)
    clock = clock_of(tmp_path / "a.mp4", settings, tmp_path)
    assert clock.rate_ppm == pytest.approx(31, abs=0.5)
    assert clock.rate_error_ppm == 3.0


def run_of_stream(arrival_offset_ns: int) -> Video:
    """A stream of which nothing counts but when it came."""
    pts = np.array([0, 90_000], dtype=np.int64)
    clip = Clip(Path("stream-001.ts"), Fraction(1, 90_000), pts, pts, np.ones(2, dtype=np.bool_), NS_PER_S)
    return Video("left", (clip,), arrival_offset_ns)


@pytest.mark.parametrize("receiver", [True, False], ids=["receiver", "no receiver"])
def test_a_camera_that_runs_slow_does_not_shift_a_stream_started_an_hour_later(
    tmp_path: Path, settings: Settings, receiver: bool
) -> None:
    """Between two runs only the Pi's clock goes on; the camera's begins anew."""

    def monotonic(since_ns: Int64) -> Int64:
        return np.asarray(NS_PER_S + since_ns + since_ns * 12 // 1_000_000)

    seconds = np.arange(3700) * NS_PER_S
    if receiver:
        rows = zip(BEGIN_NS + seconds, monotonic(seconds), strict=True)
        lines = ["utc_ns,arrival_monotonic_ns", *(f"{utc},{came}" for utc, came in rows)]
        (tmp_path / "positions.csv").write_text("\n".join(lines))
    context = Context(positions=tmp_path / "positions.csv" if receiver else None)
    begins = monotonic(np.array([0, 3600], dtype=np.int64) * NS_PER_S + 230_000_000)
    first, second = map(run_of_stream, begins.tolist())
    clock = calibration.linked(second, [(first, two_films(tmp_path, 50.0))], context, settings)
    assert clock is not None
    at = np.array([0], dtype=np.int64)
    error_ns, bar_ns = int(clock.utc_ns(at)[0]) - BEGIN_NS - 3600 * NS_PER_S, int(clock.error_ns(at)[0])
    assert abs(error_ns) < (1_000_000 if receiver else 45_000_000)
    assert abs(error_ns) <= bar_ns < (60_000_000 if receiver else 130_000_000)


@pytest.mark.parametrize("text", ["", "[]", "{", '{"C1": 3}', '{"C1": {"rate_ppm": "fast"}}'])
def test_damaged_rates_are_as_none(tmp_path: Path, text: str) -> None:
    (tmp_path / rates.NAME).write_text(text)
    assert rates.load(tmp_path) == {}
    rates.learn(tmp_path, {"C1": 2.0})
    assert rates.load(tmp_path) == {"C1": 2.0}


def test_a_card_file_without_a_code_is_dated_by_its_own_gps(shared_data: Path, settings: Settings) -> None:
    clock = clock_of(shared_data / "gopro" / "max-heromode.mp4", settings)
    assert clock.source == "gpmf"
    at = np.array([5 * NS_PER_S], dtype=np.int64)
    assert 250 <= int(clock.error_ns(at)[0]) / 1e6 < 1000


@pytest.mark.parametrize("logged", [False, True], ids=["no log", "log"])
def test_a_film_in_the_middle_is_found(tmp_path: Path, settings: Settings, logged: bool) -> None:
    """By the key frames, or by the page's log and the stream's arrival."""
    begin_s = 3.0
    shown = replace(PHONE, shown=((BEGIN_NS + round(begin_s * NS_PER_S), BEGIN_NS + 5 * NS_PER_S),))

    def gone(picture: Light, number: int) -> None:
        if not 75 <= number < 125:
            picture[:] = 0.15

    record(tmp_path)
    path = tmp_path / "stream-001.ts"
    write_screens(path, [Shown(shown, *LEFT)], BEGIN_NS, seconds=8.0, spoil=gone)
    if logged:
        write_index(path, 230_000_000)
        write_log(tmp_path, shown, seconds=5.0)
    clock = clock_of(path, replace(settings, code_window_s=0.5), tmp_path)
    error, bar = error_ms(clock)
    assert clock.anchors[0].codes > 20
    assert abs(error) <= bar <= 4
