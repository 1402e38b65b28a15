"""Errors about paths, as people read them."""

import errno
import os
from pathlib import Path

import pytest

from runtime.path_errors import NO_TEMPORARY_FOLDER, explain_os_error

PATHS = {"dist_path": Path("/srv/dist"), "cache_path": Path("/srv/cache"), "state_path": Path("/srv/cache/state")}


def error(number, path):
    return OSError(number, os.strerror(number), path)


@pytest.mark.parametrize(
    ("raised", "text"),
    [
        (
            error(errno.EROFS, "/srv/dist"),
            (
                "cannot use /srv/dist (setting dist_path): Read-only file system; mount a writable file system there, "
                "or choose another place with --dist-path or PEXDOCK_DIST_PATH"
            ),
        ),
        (
            error(errno.EACCES, Path("/srv/cache/bases/1")),
            (
                f"cannot use /srv/cache/bases/1 (in cache_path, /srv/cache): Permission denied; give user {os.geteuid()} access to it, "
                "or choose another place with --cache-path or PEXDOCK_CACHE_PATH"
            ),
        ),
        (
            error(errno.ENOSPC, "/srv/cache/state/traffic.json"),
            (
                "cannot use /srv/cache/state/traffic.json (in state_path, /srv/cache/state): No space left on device; free some space, "
                "or choose another place with --state-path or PEXDOCK_STATE_PATH"
            ),
        ),
        (error(errno.ENOENT, b"/elsewhere"), "cannot use /elsewhere: No such file or directory; create it"),
        (FileNotFoundError(errno.ENOENT, "No usable temporary directory found in ['/tmp']"), NO_TEMPORARY_FOLDER),
        (OSError("timed out"), "timed out"),
    ],
)
def test_path_setting_and_remedy_are_named(raised, text):
    """The setting is the one whose folder contains the path most closely; an error without a path is repeated."""
    assert explain_os_error(raised, PATHS) == text


def test_a_parent_of_a_folder_that_cannot_be_made_is_explained_by_the_setting():
    """`mkdir -p` fails at the first folder that it cannot make."""
    assert "(in dist_path, /srv/dist)" in explain_os_error(error(errno.EACCES, "/srv"), PATHS)
