"""CacheConfig: what the author of an endpoint says about its models."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from base.artifacts.client import Client
from base.errors import Cell, Misfit

_CLIENT_MEMBERS = ("parameters", "locate", "list")


class CacheConfig(BaseModel):
    """How an endpoint comes by its models.

    Attributes:
        client: finds an artifact for parameters: `FsClient`, or any object with the members of `base.artifacts.client.Client`.
        load_model: makes a model of an artifact. Gets one `str`, the artifact's absolute path, on a loader thread.
        spec: a Pydantic model that the parameters of a request must satisfy; a request that does not is refused before anything is loaded.
        max_size: models kept at once; the one unused for longest goes first.
        pre_fetch_all: load what the client lists when the worker starts, up to `max_size`, newest first. False, since a model is loaded
            when it is first asked for, and a store may hold many more than will be.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True, extra="forbid", frozen=True)

    client: Any
    load_model: Callable[[str], Any]
    spec: type[BaseModel] | None = None
    max_size: int = Field(default=128, ge=1)
    pre_fetch_all: bool = False

    @field_validator("client")
    @classmethod
    def _is_a_client(cls, client: Client) -> Client:
        missing = [name for name in _CLIENT_MEMBERS if not hasattr(client, name)]
        if missing:
            raise ValueError(f"a client needs {', '.join(_CLIENT_MEMBERS)}; {type(client).__name__} lacks {', '.join(missing)}")
        return client

    def check_parameters(self, parameters: Mapping[str, str]) -> None:
        """Refuses parameters that `spec` does not admit; without a spec all are admitted.

        Raises:
            Misfit: with a cell for each parameter that does not fit.
        """
        if self.spec is None:
            return
        try:
            self.spec.model_validate(dict(parameters))
        except ValidationError as exc:
            cells = [
                Cell(None, ".".join(map(str, error["loc"])) or None, error["msg"].removeprefix("Value error, "))
                for error in exc.errors(include_url=False, include_input=False, include_context=False)
            ]
            said = "; ".join(f"{cell.column}: {cell.reason}" if cell.column else cell.reason for cell in cells)
            raise Misfit(f"the parameters do not fit: {said}", cells=cells) from exc
