"""Evaluates annotations, which may be strings. Knows neither dtypes nor schemas."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Mapping
from typing import Any


def evaluate_annotation(annotation: object, module: str, local: Mapping[str, object]) -> Any:
    """Returns an annotation as an object, even if `from __future__ import annotations` left a string.

    Args:
        annotation: The annotation as found in `__annotations__`.
        module: Name of the module that defines it.
        local: Names that were visible there besides the module's own.

    Raises:
        Exception: The annotation's expression raised it, such as NameError.
    """
    if not isinstance(annotation, str):
        return annotation
    holder = type("holder", (), {"__annotations__": {"annotation": annotation}})
    names = vars(sys.modules[module]) if module in sys.modules else {}
    return inspect.get_annotations(holder, globals=dict(names), locals=local, eval_str=True)["annotation"]
