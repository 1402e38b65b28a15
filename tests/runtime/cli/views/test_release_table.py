"""The table of releases."""

from runtime.cli.views import release_table
from runtime.supervisor.status.state import ModelReport, ReleaseReport, State


def test_the_table_is_aligned_and_has_reasons_and_last_lines_below_their_release():
    """Columns stand below their heads."""
    reports = [
        ReleaseReport(
            file="a.pex",
            name="a",
            version="0.1.0",
            sha256="0123456789ab",
            state="ready",
            since="",
            base_version="0.1.0",
            paths=["/a", "/b"],
            warnings=["odd"],
        ),
        ReleaseReport(file="long-name.pex", state="failed", since="", reason="it broke", log=["one", "two"], restarts=2),
    ]
    lines = release_table.as_table(State(dist_path="d", pid=7, address="http://x", releases=reports)).splitlines()
    assert lines == [
        "supervisor 7 serves d at http://x",
        "",
        "FILE           NAME  VERSION  DIGEST    STATE   BASE   RESTARTS  PATHS",
        "a.pex          a     0.1.0    01234567  ready   0.1.0  0         /a /b",
        "    warning: odd",
        "long-name.pex  -     -        -         failed  -      2         -",
        "    it broke",
        "    | one",
        "    | two",
    ]
    assert release_table.as_table(State(dist_path="d")).endswith("no pex in d")
    assert "is dist_path mounted?" in release_table.as_table(State(dist_path="d", models=[ModelReport(name="iris")]))
