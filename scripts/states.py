"""Prints the tables of `docs/operations/readiness.md` from the code.

.venv/bin/python scripts/states.py            # prints the tables
.venv/bin/python scripts/states.py --update   # writes them into the page
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from pathlib import Path

from runtime.model_state import MEANINGS, POLICIES, ModelFacts, ModelState, ReadinessPolicy, machine_is_ready

PAGE = Path(__file__).resolve().parent.parent / "docs" / "operations" / "readiness.md"


def main() -> None:
    """Prints the tables, or writes them into the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--update", action="store_true", help="write the tables into the page")
    if parser.parse_args().update:
        PAGE.write_text(updated_page(PAGE.read_text()))
    else:
        print(states_table(), policies_table(), sep="\n")


def updated_page(text: str) -> str:
    """Returns the page with the present tables."""
    for name, table in {"states": states_table(), "policies": policies_table()}.items():
        begin, end = f"<!-- {name}: scripts/states.py --update -->\n", f"<!-- end of {name} -->\n"
        text = re.sub(f"{begin}.*?{end}", lambda _, found=begin + table + end: found, text, flags=re.DOTALL)
    return text


_COLUMNS = (
    "state",
    "meaning",
    "its paths",
    "`/readyz/MODEL`",
    "`/readyz` by `started`",
    "by `all`, or by `served` if it has served",
    "by its name",
    "by `any`",
    "`ModelReady`",
)


def states_table() -> str:
    """Returns one line for each state."""
    return _line(_COLUMNS) + _line(["---"] * len(_COLUMNS)).replace(" ", "") + "".join(_line(_state_columns(state)) for state in ModelState)


def policies_table() -> str:
    """Returns one line for each policy."""
    return "| `readiness` | the machine is ready when |\n|---|---|\n" + "".join(
        f"| `{name}` | {text} |\n" for name, text in POLICIES.items()
    )


def is_machine_ready(policy: str, state: ModelState, *, was_ready: bool = False, has_served: bool = False) -> bool:
    """Returns whether a machine is ready on which model `a` is in a state while another model is ready."""
    facts = {"a": ModelFacts(state, was_ready=was_ready, has_served=has_served), "b": ModelFacts(ModelState.READY, was_ready=True)}
    rule = ReadinessPolicy.parse(policy)
    ready = [name for name, each in facts.items() if MEANINGS[each.state].ready]
    return state is not ModelState.RETIRING and machine_is_ready(ready, rule.required(facts), one_required=rule.needs_one(facts))


def _state_columns(state: ModelState) -> list[str]:
    meaning = MEANINGS[state]
    own = 404 if state is ModelState.UNKNOWN else 200 if meaning.ready else 503
    others = [_word(is_machine_ready(policy, state, was_ready=True, has_served=True)) for policy in ("all", "a", "any")]
    return [
        f"`{state}`",
        meaning.description,
        str(int(meaning.path_status)),
        str(own),
        _by_started(state),
        *others,
        str(int(meaning.ready)),
    ]


def _by_started(state: ModelState) -> str:
    new, known = (is_machine_ready("started", state, has_served=has_served) for has_served in (False, True))
    if not is_machine_ready("started", state, was_ready=True, has_served=True):
        return "not ready"
    if new and not known:
        return "ready; if it has served before, not until it has been ready once"
    return "ready" if new else "not ready until it has been ready once"


def _word(ready: bool) -> str:
    return "ready" if ready else "not ready"


def _line(columns: Sequence[str]) -> str:
    return f"| {' | '.join(columns)} |\n"


if __name__ == "__main__":
    main()
