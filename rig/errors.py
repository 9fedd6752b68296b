"""The errors a user can meet, each with the HTTP status and the exit code that tell scripts apart what happened.

EdencarError                   1  500  a defect of this program
├── UsageError     (ValueError)   2  400  asked in a way that cannot be understood
├── UnreadableError (ValueError)  3  422  an input is not readable or not what it should be
├── UnknownError   (LookupError)  3  404  no such recording, camera, job or file
├── NoCalibrationError            4  422  nothing says when the frames were taken
├── NoPositionError               5  422  no photo has a position
├── DeviceNotFoundError (OSError) 6  503  no camera or no receiver answers
├── DeviceError    (OSError)      7  502  a device refused a command or vanished
├── ConflictError                 7  409  asked for something that does not fit the present state
└── NoSpaceError   (OSError)      8  507  the disk has no room

The message is one line: what, where, and what to do.
"""

from functools import partial


class EdencarError(Exception):
    """A defect of this program, or the base of all that a user can meet."""

    exit_code, status, title = 1, 500, "Defect"

    def __init__(self, message: str, *, cure: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.cure = cure

    def __str__(self) -> str:
        return f"{self.message}: {self.cure}" if self.cure else self.message

    def __reduce__(self) -> tuple[object, ...]:
        # The built-in way would lose the keyword on its way between two processes.
        return partial(type(self), self.message, cure=self.cure), ()


class UsageError(EdencarError, ValueError):
    """Asked in a way that cannot be understood."""

    exit_code, status, title = 2, 400, "Not understood"


class UnreadableError(EdencarError, ValueError):
    """An input is not readable or not what it should be."""

    exit_code, status, title = 3, 422, "Unreadable input"


class UnknownError(EdencarError, LookupError):
    """No such recording, camera, job or file."""

    exit_code, status, title = 3, 404, "Unknown"


class NoCalibrationError(EdencarError):
    """Nothing says when the frames were taken."""

    exit_code, status, title = 4, 422, "No time calibration"


class NoPositionError(EdencarError):
    """No photo has a position."""

    exit_code, status, title = 5, 422, "No position"


class DeviceNotFoundError(EdencarError, OSError):
    """No camera or no receiver answers."""

    exit_code, status, title = 6, 503, "Device not found"


class DeviceError(EdencarError, OSError):
    """A device refused a command or vanished."""

    exit_code, status, title = 7, 502, "Device failed"


class ConflictError(EdencarError):
    """Asked for something that does not fit the present state."""

    exit_code, status, title = 7, 409, "Not now"


class NoSpaceError(EdencarError, OSError):
    """The disk has no room."""

    exit_code, status, title = 8, 507, "No space left"
