"""A supervisor on a machine that reports no changes of files: it says so, and polls."""

from supervisor_harness import Supervised
from tinypex import times, write_tiny


class WithoutInotify(Supervised):
    """A supervisor whose processes may not open inotify, as where its limits are used up."""

    def command(self, *words):
        limit = 'echo 0 > /proc/sys/user/max_inotify_instances && exec "$@"'
        return ["unshare", "--user", "--map-root-user", "bash", "-c", limit, "bash", *super().command(*words)]


def test_without_inotify_the_dist_folder_is_polled(tmp_path):
    """A release that is dropped, replaced or renamed in serves as it does elsewhere, and the log says what to raise."""
    supervised = WithoutInotify(tmp_path, dist_poll_s=0.3)
    write_tiny(supervised.dist / "tiny.pex", "tiny", module=times(2, "/tiny"))
    with supervised:
        log = supervised.err.read_text()
        assert f"{supervised.dist} is listed every 0.3 s (dist_poll_s): inotify cannot be used: " in log
        assert "fs.inotify.max_user_instances" in log
        write_tiny(supervised.dist / "late.pex", "late", module=times(7, "/late"))
        supervised.until(lambda: supervised.predictions("/late") == [21])
        write_tiny(supervised.dist / "tiny.pex", "tiny", "0.2.0", times(5, "/tiny"))
        supervised.until(lambda: supervised.predictions("/tiny") == [15])
