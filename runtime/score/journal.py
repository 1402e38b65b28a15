"""The journal of one output: what is scored, and which parts are done, so that a run that was killed continues. Blocks.

`_score/plan.json` describes the run. After the file of a part, its record is published: the refused rows, one a line, and then what the
part holds. A part without a record is computed again, and has the same content then. No file is ever appended to.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from uuid import uuid4

import msgspec

from base.errors import Conflict
from runtime.score.places import OutputFolder
from runtime.score.readers import PartStart

FOLDER = "_score/"
REFUSED = "_refused.ndjson"
_PLAN = f"{FOLDER}plan.json"
_DIFFERENCES_MAX = 5


class PlannedInput(msgspec.Struct, frozen=True):
    """An input file, as it was when it was found."""

    name: str
    size: int
    stamp: str


class Plan(msgspec.Struct, frozen=True):
    """Everything that the results depend on.

    Attributes:
        model: Name, version and digest of the model's pex.
        base: Version and digest of its base.
        settings: Names and values of the sizes in which files are read.
    """

    model: str
    base: str
    endpoint: str
    parameters: list[tuple[str, str]]
    ending: str
    settings: dict[str, int | str]
    inputs: list[PlannedInput]

    def differences(self, other: Plan) -> list[str]:
        """Returns what differs in another plan, for people."""
        found = [
            f"{name} was {mine!r} and is {theirs!r}"
            for name in ("model", "base", "endpoint", "parameters", "ending", "settings")
            if (mine := getattr(self, name)) != (theirs := getattr(other, name))
        ]
        before, now = ({each.name: each for each in plan.inputs} for plan in (self, other))
        found += [f"{name} is new" for name in now.keys() - before.keys()]
        found += [f"{name} is missing" for name in before.keys() - now.keys()]
        return found + [f"{name} has changed" for name in before.keys() & now.keys() if before[name] != now[name]]


class PartRecord(msgspec.Struct, frozen=True):
    """The outcome of a part.

    Attributes:
        file: Name of its file in the output.
        rows: Rows of the input.
        results: Rows of the output.
        refused: Rows that were refused.
        failed: Rows among them for which the model failed.
        size: Bytes of its file; 0 if it has none.
        weight: Bytes of the input for which it stands.
        next_part: The part behind it; None if it is the last one, or the parts are known otherwise.
    """

    file: str
    rows: int
    results: int
    refused: int
    failed: int
    size: int
    weight: float
    next_part: PartStart | None = None


class Journal:
    """The journal in an output folder.

    Args:
        output: The folder.

    Attributes:
        has_added: True once a part was added.
    """

    def __init__(self, output: OutputFolder) -> None:
        self.has_added = False
        self._output = output
        self._sizes = dict(output.sizes())

    @property
    def is_new(self) -> bool:
        """True if no part is done."""
        return self._sizes.keys() <= {_PLAN}

    def check(self, plan: Plan) -> None:
        """Checks that the folder is empty, or holds results of the same plan.

        Raises:
            Conflict: It holds something else.
        """
        if self.is_new:
            return  # a run that ended before its first part may be replaced
        if _PLAN not in self._sizes:
            raise Conflict(f"the output is not empty: it has {min(self._sizes)}; name another folder, or remove its files")
        before = msgspec.json.decode(self._output.read(_PLAN), type=Plan)
        if differences := sorted(before.differences(plan)):
            more = len(differences) - _DIFFERENCES_MAX
            shown = "; ".join(differences[:_DIFFERENCES_MAX]) + (f"; and {more} more" if more > 0 else "")
            raise Conflict(f"the output belongs to another run: {shown}; name another folder, or remove this one to score anew")

    def begin(self, plan: Plan) -> None:
        """Publishes the plan that was checked."""
        self._publish(_PLAN, [msgspec.json.format(msgspec.json.encode(plan))])

    def find_record(self, file: str) -> PartRecord | None:
        """Returns the record of a part; None if the part is to be computed."""
        if _record_name(file) not in self._sizes:
            return None
        found = msgspec.json.decode(self._output.read(_record_name(file)).splitlines()[-1], type=PartRecord)
        return found if found.size == self._sizes.get(file, 0) else None

    def add_part(self, aside: Path | None, record: PartRecord, refusals: Sequence[bytes]) -> None:
        """Publishes a part that is complete, unless it has no file, and its record."""
        self.has_added = True
        if aside is not None:
            self._output.publish(aside, record.file)
        self._publish(_record_name(record.file), [*refusals, msgspec.json.encode(record)])

    def finish(self, records: Iterable[PartRecord]) -> None:
        """Publishes the refused rows of all parts as one file, if there are any."""
        files = [record.file for record in records if record.refused]
        lines = (line for file in files for line in self._output.read(_record_name(file)).splitlines()[:-1])
        if files:
            self._publish(REFUSED, lines)

    def new_aside(self) -> Path:
        """Returns the path of a new file that is not complete."""
        return self._output.aside / uuid4().hex

    def _publish(self, name: str, lines: Iterable[bytes]) -> None:
        aside = self.new_aside()
        with aside.open("xb") as file:
            file.writelines(line + b"\n" for line in lines)
        self._output.publish(aside, name)


def _record_name(file: str) -> str:
    return f"{FOLDER}parts/{file}.ndjson"
