"""What is checked before a run begins: the name of the output, the inputs, and that nobody else writes there."""

import pytest

from base.errors import Conflict, NotFound, UnsupportedMedia
from runtime.score import run
from runtime.score.places import find_inputs
from runtime.score.results import Output


@pytest.mark.parametrize(
    ("text", "folder", "ending", "file"),
    [
        ("out", "out", ".parquet", ""),
        ("out/*.csv", "out", ".csv", ""),
        ("out/*.CSV", "out", ".csv", ""),
        ("a/scores.csv", "a/scores.csv.parts", ".csv", "a/scores.csv"),
        ("a/scores.CSV", "a/scores.CSV.parts", ".csv", "a/scores.CSV"),
        ("iris-0.1.0", "iris-0.1.0", ".parquet", ""),
        ("out.csv.gz/", "out.csv.gz", ".parquet", ""),
        ("..", "..", ".parquet", ""),
        (".hidden", ".hidden", ".parquet", ""),
        ("/", "/", ".parquet", ""),
        ("s3://my.bucket", "s3://my.bucket", ".parquet", ""),
        ("s3://my.bucket/a.arrow", "s3://my.bucket/a.arrow.parts", ".arrow", "s3://my.bucket/a.arrow"),
    ],
)
def test_an_output_is_a_folder_the_files_in_it_or_one_file(text, folder, ending, file):
    assert Output.parse(text) == (folder, ending, file)


@pytest.mark.parametrize("text", ["foo.csv.gz", "a/foo.txt", "foo.json", "s3://bucket/foo.xlsx"])
def test_an_output_with_the_ending_of_another_format_is_refused(text):
    with pytest.raises(UnsupportedMedia, match=rf"the output {text} must end in one of .parquet, .*; if it is a folder, write {text}/$"):
        Output.parse(text)


def test_an_output_without_a_name_is_refused():
    with pytest.raises(NotFound, match="the output is empty"):
        Output.parse("")


def test_a_file_that_two_inputs_name_is_refused(tmp_path):
    for name in ("in/a.csv", "in2/a.csv"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text("x")
    one, other = find_inputs(f"{tmp_path}/in/*"), find_inputs(f"{tmp_path}/in2/*")
    with pytest.raises(Conflict, match=r"in/a.csv is named by more than one input; name it once"):
        run._check_inputs([*one, *one])
    with pytest.raises(Conflict, match=r"in/a.csv and .*in2/a.csv would have results of the same name"):
        run._check_inputs([*one, *other])


def test_an_output_is_locked_whatever_the_folder_for_temporary_files(tmp_path, monkeypatch):
    out = str(tmp_path / "out")
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    monkeypatch.setattr(run.tempfile, "tempdir", str(tmp_path / "one"))
    with run._lock_output(out):
        for name in ("one", "two"):
            monkeypatch.setattr(run.tempfile, "tempdir", str(tmp_path / name))
            with (
                pytest.raises(Conflict, match=rf"^another process scores into the same output; wait until .*: {out}$"),
                run._lock_output(out),
            ):
                pass
    with run._lock_output(out):
        pass
    (tmp_path / "file").touch()
    with (
        pytest.raises(Conflict, match=r"the output .*/file/out cannot be made: Not a directory; name another one"),
        run._lock_output(f"{tmp_path}/file/out"),
    ):
        pass
    monkeypatch.setattr(run.tempfile, "tempdir", str(tmp_path / "file"))
    with pytest.raises(Conflict, match=r"set TMPDIR to another folder$"), run._lock_output(out):
        pass
