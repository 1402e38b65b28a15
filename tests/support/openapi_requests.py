"""Valid and invalid requests that are generated from an OpenAPI document."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Mapping
from typing import Any

import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from schemathesis import Case, GenerationMode
from schemathesis.checks import load_all_checks
from schemathesis.specs.openapi import checks

load_all_checks()

DOCUMENTED = [
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
    checks.missing_required_header,
]
"""What is true of an answer that is as the document says."""

MODES = (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)


def operations(url: str, headers: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Returns the operations of the document at a URL, by method and path."""
    logging.getLogger("schemathesis").setLevel(logging.ERROR)
    document = schemathesis.openapi.from_url(url, headers=dict(headers or {}))
    document.config.generation.with_security_parameters = False  # who may ask is tried by itself
    return {each.label: each for each in (found.ok() for found in document.get_all_operations())}


def try_out(operation: Any, ask: Callable[[Case, GenerationMode, st.DataObject], None], examples: int = 40) -> None:
    """Sends so many valid and as many invalid requests; `ask` raises at a wrong response."""
    for mode in MODES:
        with contextlib.suppress(Unsatisfiable):  # what has neither parameters nor a body has no opposite
            _try_out(operation, mode, ask, examples)


def _try_out(operation: Any, mode: GenerationMode, ask: Callable[[Case, GenerationMode, st.DataObject], None], examples: int) -> None:
    @settings(deadline=None, max_examples=examples, database=None, suppress_health_check=list(HealthCheck))
    @given(case=operation.as_strategy(generation_mode=mode), data=st.data())
    def tried(case: Case, data: st.DataObject) -> None:
        ask(case, mode, data)

    tried()
