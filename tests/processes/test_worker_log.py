"""What the log of a supervisor holds of its workers: each reason under its id, at its level, whatever a model does to its own log."""

import re
from pathlib import Path

import httpx
import pytest

from operated_supervisor import Operated
from tinypex import write_tiny

SILENT = Path(__file__).parent.parent / "models/silent.py"
LINE = re.compile(r"\d\d:\d\d:\d\d (\w+) silent 0\.1\.0: (.*)")


@pytest.fixture(scope="module")
def quiet(tmp_path_factory):
    """A supervisor that prints warnings and errors only."""
    operated = Operated(tmp_path_factory.mktemp("quiet"), log_level="warning")
    write_tiny(operated.dist / "silent.pex", "silent", module=SILENT.read_text())
    with operated:
        yield operated


def ask(operated, do="nothing", then="answers", path="/silent", **headers):
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx.post(operated.state()["address"] + path, json=[{"do": do, "then": then}], headers=names, timeout=30)


def printed(operated):
    """Returns the lines of the model on standard error, with their levels."""
    return [found.groups() for line in operated.err.read_text().splitlines() if (found := LINE.fullmatch(line))]


def incident_in(reply):
    return re.search(r"incident (\w{12})", reply.json()["detail"])[1]


def complete(lines, incident):
    """Returns the lines if they end with the whole traceback of the incident."""
    return lines if any(incident in text for _, text in lines) and lines[-1][1] == "ValueError: the reason" else None


DAMAGES = [
    *("nothing", "disables_loggers", "forbids_levels", "removes_handlers", "breaks_records", "repairs_records"),
    *("prints_much", "replaces_stderr", "redirects_stderr"),
]


def test_a_traceback_is_found_by_its_id_whatever_the_model_does_to_its_log(quiet):
    """Once, and all its lines as errors. The damages add up, since one worker does them all."""
    for damage in DAMAGES:
        reply = ask(quiet, damage, "raises")
        assert reply.status_code == 500
        incident = incident_in(reply)
        lines = quiet.until(lambda wanted=incident: complete(printed(quiet), wanted))
        (start,) = [number for number, (_, text) in enumerate(lines) if incident in text]
        assert lines[start + 1] == ("ERROR", "Traceback (most recent call last):"), damage
        assert {level for level, _ in lines[start:]} == {"ERROR"}, damage


def test_a_result_that_breaks_the_contract_is_logged_with_its_id(quiet):
    """Clients get the reason, and the log has it, too."""
    reply = ask(quiet, "nothing", "returns_too_few")
    assert (reply.status_code, reply.json()["code"]) == (500, "bad_result")
    incident = incident_in(reply)
    (found,) = quiet.until(lambda: [line for line in printed(quiet) if incident in line[1]])
    assert found == (
        "ERROR",
        (
            "handler does: the handler was given 1 rows and returned 0: return one for each, at the same position, "
            f"or declare batched=False for an answer of another length, incident {incident}"
        ),
    )


def test_a_model_that_cannot_be_loaded_is_logged_with_its_id(quiet):
    """Once, though later requests get the same error for a while."""
    replies = [ask(quiet, path="/loads/passwd") for _ in range(3)]
    assert {reply.json()["code"] for reply in replies} == {"load_failed"}
    incidents = {incident_in(reply) for reply in replies}  # one, unless the machine is so slow that the load was tried again
    for incident in incidents:
        (line,) = quiet.until(lambda wanted=incident: [line for line in printed(quiet) if wanted in line[1]])
        assert line == ("ERROR", f"load_model failed for {{'name': 'passwd'}}, incident {incident}")
    quiet.until(lambda: ("ERROR", "OSError: no licence") in printed(quiet))


def test_each_server_error_is_logged_with_the_id_of_its_request(quiet):
    """In the log of the front door, once."""
    late = ask(quiet, "nothing", "sleeps", x_request_timeout_ms="100")
    failed = ask(quiet, "nothing", "raises")
    assert (late.status_code, failed.status_code) == (504, 500)
    for reply, level in ((late, "WARNING"), (failed, "ERROR")):
        identity = reply.json()["id"]
        (line,) = quiet.until(lambda wanted=identity: [line for line in quiet.err.read_text().splitlines() if wanted in line])
        assert f" {level} front door: request {identity}: {reply.status_code} {reply.json()['code']}" in line


def test_lines_keep_their_levels(tmp_path):
    """Prints are information. Without a configuration of its own, all lines of a model from INFO on are logged."""
    operated = Operated(tmp_path, log_level="warning")
    write_tiny(operated.dist / "silent.pex", "silent", module=SILENT.read_text())
    with operated:
        assert ask(operated, "logs").status_code == 200
        said = [("WARNING", "a warning"), ("WARNING", "of two lines"), ("ERROR", "an error")]
        operated.until(lambda: printed(operated)[-1:] == said[-1:])
        assert printed(operated) == said
        kept = [(line["level"], line["text"]) for line in operated.admin.get("/logs", params={"model": "silent"}).json()["lines"]]
        start = kept.index(("info", "an information"))
        assert kept[start:] == [
            ("info", "an information"),
            ("warning", "a warning"),
            ("warning", "of two lines"),
            ("info", "a print"),
            ("info", "a print without an end"),
            ("error", "an error"),
        ]
        assert f"ERROR silent 0.1.0[{operated.release('silent.pex')['worker_pids'][0]}]: an error" in operated.run("logs", "silent").stdout
        assert ask(operated, "configures").status_code == 200
        operated.until(lambda: "own format: in it" in operated.run("logs", "silent").stdout)
