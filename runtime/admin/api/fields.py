"""The fields of request bodies and paths, as FastAPI validates and documents them. The supervisor applies the rules behind them."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Path
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from runtime.pex.dist_file import NAME_MAX_CHARS
from runtime.supervisor.rollout.traffic_policy import LABEL_PATTERN


class RequestBody(BaseModel):
    """A JSON request body. No type is coerced: neither `true` nor "1" is a number."""

    model_config = ConfigDict(extra="forbid", strict=True)


def documented_as(**schema: object) -> Any:
    """Returns a field with this schema in the OpenAPI document. The supervisor rejects a violation later, with advice in the message."""
    return Field(json_schema_extra=schema)  # type: ignore[arg-type]


def _encodable(text: str) -> str:
    """Rejects half of a surrogate pair: JSON can spell it, but neither JSON nor UTF-8 can encode it."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("text must not contain half of a surrogate pair") from None
    return text


def _printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError("a name must not contain control characters or half of a surrogate pair")
    return text


Text = Annotated[str, AfterValidator(_encodable)]
"""Text that can be returned, logged and stored."""

Name = Annotated[str, Field(min_length=1), AfterValidator(_printable)]
"""Version or label of a release. It appears in the log and in the history, which have one line for each event."""

Model = Annotated[str, Path(description="Name of the model, in any spelling.")]
Label = Annotated[str, Path(json_schema_extra={"pattern": f"^{LABEL_PATTERN}$"})]
File = Annotated[str, Path(json_schema_extra={"pattern": r"^[A-Za-z0-9][A-Za-z0-9._+-]*\.pex(\.sig)?$", "maxLength": NAME_MAX_CHARS})]
