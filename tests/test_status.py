"""What the crew is told: each state of the devices gives its problems, by how bad they are."""

from dataclasses import replace

import pytest

from rig.status import (
    ERROR,
    INFO,
    NO_DATE,
    NO_PICTURE,
    OLD_DATE,
    TOO_HOT,
    WARNING,
    CameraNow,
    Problem,
    ReceiverNow,
    StorageNow,
    TimeNow,
    camera_problems,
    other_problems,
    receiver_problems,
)

CAMERA = CameraNow(serial="C1", label="left", model="HERO12 Black", address="10.0.0.1:80", state="idle")
RECEIVER = ReceiverNow(state="listening", latitude=47.0, longitude=-1.0, correction_age_s=1.0)
TIME, ROOM = TimeNow("2026-11-22T14:03:12.000Z", "gnss", 1.0), StorageNow(10**12, 10**5)

Told = list[tuple[str, str]]


def told(problems: object) -> Told:
    assert hasattr(problems, "__iter__")
    return [(problem.code, problem.level) for problem in problems]


@pytest.mark.parametrize(
    ("camera", "recording", "expected"),
    [
        (CAMERA, False, []),
        (replace(CAMERA, state="lost"), False, [("camera_lost", ERROR)]),
        (replace(CAMERA, state="lost", records=True), True, [("camera_lost", ERROR)]),
        (replace(CAMERA, state="lost"), True, [("camera_lost", WARNING)]),  # it is no part of the recording
        (replace(CAMERA, records=True, trouble="it is hot"), True, [("camera_not_recording", ERROR)]),
        (replace(CAMERA, records=True, state="streaming"), True, []),
        (replace(CAMERA, card_problem="there is no card"), False, [("card", WARNING)]),
        (replace(CAMERA, battery_percent=10), False, [("battery", WARNING)]),
        (replace(CAMERA, battery_percent=11), False, []),
        (replace(CAMERA, problems=("too hot", "no picture")), False, [("camera", WARNING)] * 2),
        (
            replace(CAMERA, problems=(TOO_HOT, f"{NO_PICTURE} for 4 s")),
            False,
            [("camera_hot", WARNING), ("no_pictures", WARNING)],
        ),
        (replace(CAMERA, state="lost", problems=("no camera answers",)), False, [("camera_lost", ERROR)]),
    ],
)
def test_a_camera_gives_the_problems_of_its_state(camera: CameraNow, recording: bool, expected: Told) -> None:
    assert told(camera_problems([camera], recording)) == expected


def test_no_camera_at_all_is_an_error_unless_somebody_has_allowed_it() -> None:
    assert told(camera_problems([], False)) == [("no_camera", ERROR)]
    assert told(camera_problems([], True)) == [("no_camera", WARNING)]


def test_what_ails_a_camera_is_said_by_its_name() -> None:
    (problem,) = camera_problems([replace(CAMERA, battery_percent=3)], False)
    assert (problem.text, problem.subject) == ("Camera left: the battery is at 3 %", "C1")
    (problem,) = camera_problems([replace(CAMERA, state="lost", trouble="its process was killed")], False)
    assert problem.text == "Camera C1 does not answer (its process was killed)"


@pytest.mark.parametrize(
    ("receiver", "idle", "recording"),
    [
        (RECEIVER, [], []),
        (ReceiverNow(), [("no_receiver", WARNING)], [("no_receiver", ERROR)]),
        (replace(RECEIVER, state="lost"), [("receiver_lost", WARNING)], [("receiver_lost", ERROR)]),
        (replace(RECEIVER, latitude=None), [("no_fix", WARNING)], [("no_fix", WARNING)]),
        (replace(RECEIVER, correction_age_s=11.0), [("old_corrections", WARNING)], [("old_corrections", WARNING)]),
        (replace(RECEIVER, correction_age_s=None), [], []),
        (replace(RECEIVER, problems=("it is slow",)), [("receiver", WARNING)], [("receiver", WARNING)]),
        (replace(RECEIVER, problems=(NO_DATE,)), [("no_date", WARNING)], [("no_date", WARNING)]),
        (replace(RECEIVER, problems=(f"{OLD_DATE} (2005-01-01)",)), [("old_date", WARNING)], [("old_date", WARNING)]),
        (ReceiverNow(problems=("it is in use",)), [("no_receiver", WARNING)], [("no_receiver", ERROR)]),
    ],
)
def test_the_receiver_is_worse_missed_while_recording(receiver: ReceiverNow, idle: Told, recording: Told) -> None:
    assert told(receiver_problems(receiver, False)) == idle
    assert told(receiver_problems(receiver, True)) == recording


def test_what_a_device_says_is_told_with_what_to_do() -> None:
    hot, unknown = camera_problems([replace(CAMERA, problems=(TOO_HOT, "it smokes"))], False)
    assert (hot.text, hot.cure) == ("Camera left: the camera is too hot", "Give it shade and air")
    assert (unknown.text, bool(unknown.cure)) == ("Camera left: it smokes", True)
    (held,) = receiver_problems(ReceiverNow(problems=("ttyACM0 is in use by cat: stop cat",)), False)
    assert held.text == "No receiver is found (ttyACM0 is in use by cat: stop cat)"
    (silent,) = receiver_problems(replace(RECEIVER, problems=("its antenna is cut",)), False)
    assert silent.cure


def test_time_room_and_files_on_the_cards_are_told() -> None:
    assert told(other_problems(TIME, ROOM, ())) == []
    assert told(other_problems(replace(TIME, source="system"), ROOM, ())) == [("time_unsure", WARNING)]
    assert told(other_problems(TIME, StorageNow(1, 1799), ())) == [("little_room", WARNING)]
    assert told(other_problems(TIME, StorageNow(1, 599), ())) == [("little_room", ERROR)]
    assert told(other_problems(TIME, ROOM, ("2026-11-22_14-03-12",))) == [("fetching", INFO)]


def test_a_problem_stays_the_same_when_only_its_numbers_change() -> None:
    first, later = (Problem("old_corrections", WARNING, f"The corrections are {age} s old") for age in (11, 12.5))
    other = Problem("old_corrections", WARNING, "The corrections are 11 s old", subject="C1")
    assert first.kind == later.kind != other.kind
