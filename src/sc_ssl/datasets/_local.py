"""Data sets whose upstream files are in formats of R, or are many: read from a converted copy in ``SC_SSL_DATA``."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from ._fetch import FOLDERS_VARIABLE, find_local


@dataclass(frozen=True)
class Converted:
    """A file that holds a published data set in the form that this package reads.

    Parameters
    ----------
    filename
        Its name in a folder of ``SC_SSL_DATA``.
    sha256
        Its checksum.
    repository, path
        Where it was converted from: ``owner/repository`` on GitHub, path or paths inside the repository.
    licence
        Of that repository.
    """

    filename: str
    sha256: str
    repository: str
    path: str
    licence: str

    @property
    def source(self) -> str:
        return f"https://github.com/{self.repository}, {self.path} ({self.licence})"


def local_copy(file: Converted) -> Path:
    """The file's path, once its checksum is right.

    Raises
    ------
    FileNotFoundError
        If no folder of ``SC_SSL_DATA`` has it.
    ValueError
        If it is another file of that name.
    """
    found = find_local(file.filename)
    if found is None:
        searched = os.environ.get(FOLDERS_VARIABLE) or "not set"
        raise FileNotFoundError(
            f"{file.filename} was not found in {FOLDERS_VARIABLE} ({searched}). Set the environment variable to a folder "
            f"that has it. It was converted from {file.source}."
        )
    checksum = hashlib.sha256(found.read_bytes()).hexdigest()
    if checksum != file.sha256:
        raise ValueError(
            f"{found} should have the SHA-256 {file.sha256}, but has {checksum}. Replace it by the file that was converted "
            f"from {file.source}."
        )
    return found
