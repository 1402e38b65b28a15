"""Examples of bytes in the fields of schemas, which Pydantic would decode as text. Knows no dtypes."""

from __future__ import annotations

import base64
from typing import Any

from pydantic.fields import FieldInfo


class BytesExample(str):
    """Bytes as Pydantic sees them: as base64, which is also their form in JSON."""

    __slots__ = ()


def hide_bytes(info: object) -> None:
    """Replaces the bytes in the examples of a field, so that Pydantic can copy them into its JSON schema."""
    if isinstance(info, FieldInfo) and info.examples:
        info.examples = _hidden(info.examples)
        info._attributes_set["examples"] = info.examples  # noqa: SLF001 - which Pydantic copies when it merges fields


def show_bytes(example: Any) -> Any:
    """Returns an example as its author gave it."""
    match example:
        case BytesExample():
            return base64.b64decode(example)
        case list():
            return [show_bytes(each) for each in example]
        case dict():
            return {name: show_bytes(each) for name, each in example.items()}
    return example


def _hidden(example: Any) -> Any:
    match example:
        case bytes():
            return BytesExample(base64.b64encode(example).decode())
        case list() | tuple():
            return [_hidden(each) for each in example]
        case dict():
            return {name: _hidden(each) for name, each in example.items()}
    return example
