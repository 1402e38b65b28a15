"""What operators may write in bodies and paths, and how the document says it. The rules themselves are those of whoever does as told."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Path
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from runtime.pex.dist_file import NAME_MAX_CHARS
from runtime.supervisor.rollout.traffic_policy import LABEL_PATTERN


class Order(BaseModel):
    """A body. Nothing in it is taken for something else: `true` is no number, and neither is "1"."""

    model_config = ConfigDict(extra="forbid", strict=True)


def documented_as(**words: object) -> Any:
    """A field of which the document says this, too. Who breaks it is refused later, in words that say what to do."""
    return Field(json_schema_extra=words)  # type: ignore[arg-type]


def _encodable(text: str) -> str:
    """JSON can spell half of a character, which neither JSON nor UTF-8 can be written with."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("half of a surrogate pair is no text") from None
    return text


def _printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError("a name has no control characters, and no half of a surrogate pair")
    return text


Text = Annotated[str, AfterValidator(_encodable)]
"""Any text that can be answered, logged and kept."""

Name = Annotated[str, Field(min_length=1), AfterValidator(_printable)]
"""Of a release: it stands in the log and in the history, one line each."""

Model = Annotated[str, Path(description="Its name, in any spelling.")]
Label = Annotated[str, Path(json_schema_extra={"pattern": f"^{LABEL_PATTERN}$"})]
File = Annotated[str, Path(json_schema_extra={"pattern": r"^[A-Za-z0-9][A-Za-z0-9._+-]*\.pex(\.sig)?$", "maxLength": NAME_MAX_CHARS})]
