"""Writing and reading the file of a session."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from .. import _clock
from ..exceptions import SessionFormatError
from .checks import name_of
from .format import File, decoded_file, encoded


def write_file(path: str | os.PathLike[str], session: File) -> None:
    """Write a session to a file. The file is replaced as a whole: a reader finds the old one or the new one.

    Raises:
        SessionFormatError: The session holds text that cannot be written.
        OSError: The file cannot be written.
    """
    target = Path(path)
    new = target.with_name(f".{target.name}.{_clock.hex_id(8)}.new")
    content = encoded(session)
    try:
        with new.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        new.replace(target)
    except BaseException:
        with suppress(OSError):
            new.unlink()
        raise


def read_file(path: str | os.PathLike[str]) -> File:
    """Read the file of a session.

    Raises:
        SessionFormatError: It is damaged, is no session, or has another version.
        OSError: The file cannot be read.
    """
    where = f"the file {str(path)!r}"
    file = decoded_file(Path(path).read_bytes(), where)
    try:
        name_of("the id of a session", file.session.id)
    except ValueError as error:
        raise SessionFormatError(f"{where} is damaged: {error}; the session cannot be loaded") from error
    return file
