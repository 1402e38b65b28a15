"""Explains errors of the operating system about files: the path, the setting that names it, and what to do. Pure."""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from pathlib import Path

NO_TEMPORARY_FOLDER = "there is no writable folder for temporary files: set TMPDIR to one, or mount one, as with `docker run --tmpfs /tmp`"

_TEMPFILE_TEXT = "No usable temporary directory"
"""Beginning of the message of the standard library."""

_REMEDIES = {
    errno.EACCES: "give user {uid} access to it",
    errno.EPERM: "make user {uid} its owner",
    errno.EROFS: "mount a writable file system there",
    errno.ENOENT: "create it",
    errno.ENOTDIR: "remove the file that is in the place of a folder",
    errno.EEXIST: "remove the file that is in the place of a folder",
    errno.ENOSPC: "free some space",
    errno.EDQUOT: "free some space",
    errno.EMFILE: "raise the limit of open files with `ulimit -n`",
    errno.ENFILE: "raise the limit of open files of the machine with `sysctl fs.file-max`",
}


def explain_os_error(error: OSError, paths: Mapping[str, Path]) -> str:
    """Returns a sentence with the path, the reason, the setting and the remedy.

    Args:
        error: The error.
        paths: Setting → path, of all settings that may be the cause.
    """
    if error.filename is None:
        return NO_TEMPORARY_FOLDER if _TEMPFILE_TEXT in str(error) else str(error)
    path = Path(os.fsdecode(error.filename)).absolute()
    remedy = _REMEDIES.get(error.errno or 0, "check it").format(uid=os.geteuid())
    # Of `/srv` and `/srv/cache`, the second explains `/srv/cache/bases`; and a missing `/srv/a` is the cause if `/srv/a/b` cannot be made.
    above = [name for name, folder in paths.items() if path.is_relative_to(folder)]
    below = [name for name, folder in paths.items() if folder.is_relative_to(path)]
    name = max(above, key=lambda each: len(paths[each].parts)) if above else below[0] if below else ""
    if not name:
        return f"cannot use {path}: {error.strerror}; {remedy}"
    of_setting = f" (setting {name})" if path == paths[name] else f" (in {name}, {paths[name]})"
    flag = name.replace("_", "-")
    return f"cannot use {path}{of_setting}: {error.strerror}; {remedy}, or choose another place with --{flag} or PEXDOCK_{name.upper()}"
