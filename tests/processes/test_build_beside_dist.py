"""What a build does to a Pexdock that serves the folder of the base."""

from pathlib import Path

from handmade_pexes import base_stamp, sdk, write_pex
from model_projects import write_project
from operated_supervisor import Operated


def test_a_build_beside_a_serving_folder_is_not_live_at_once(tmp_path: Path) -> None:
    """It goes to build/, and the command names what puts it in. Without a supervisor it goes beside the base; with -o, where that says."""
    project, supervised = write_project(tmp_path / "project"), Operated(tmp_path)
    base = write_pex(supervised.dist / "base-0.1.0.pex", sdk(), stamp=base_stamp())

    def build(*words):
        return supervised.run("build", "model", project, "--base", base, *words)

    with supervised:
        built = build()
        assert built.returncode == 0, built.stderr
        assert (tmp_path / "build/tiny-0.1.0.pex").is_file()
        assert not list(supervised.dist.glob("tiny*"))
        assert f"run `pexdock deploy {tmp_path}/build/tiny-0.1.0.pex`" in built.stdout
        assert build("-o", tmp_path / "other.pex").returncode == 0
        assert (tmp_path / "other.pex").is_file()
        shown = build("--check").stdout
        assert "tiny-0.1.0.pex would be built: model tiny 0.1.0" in shown
        assert "nothing besides the model" in shown
    assert build().returncode == 0
    assert (supervised.dist / "tiny-0.1.0.pex").is_file()
