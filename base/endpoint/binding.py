"""Binds the parameters of a handler to the values that an endpoint can give, one parameter at a time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, Field, PydanticSchemaGenerationError, create_model

from base.artifacts.spec import SpecValidator
from base.endpoint.call_plan import AvailableInputs, CallPlan
from base.endpoint.context import Context, Request
from base.endpoint.dependencies import Dependency
from base.endpoint.parameters import ParameterReader, Parameters
from base.errors import Declaration
from base.schema.forms import FrameForm


class ParameterBinder:
    """Adds the source of one parameter after another to a call plan.

    Args:
        available: The inputs that the endpoint has.
        plan: The plan that is filled.
    """

    def __init__(self, available: AvailableInputs, plan: CallPlan) -> None:
        self._available = available
        self._plan = plan

    def bind_model(self, name: str) -> None:
        """Gives the parameter the model."""
        self._plan.sources[name] = lambda inputs: inputs.model

    def bind_frame(self, name: str, form: FrameForm = FrameForm.FRAME) -> None:
        """Gives the parameter the frame, in this form.

        Raises:
            Declaration: The endpoint is raw, or another parameter already takes the frame.
        """
        if self._available.raw:
            raise self.error(f"with raw=True there is no frame; take `request: svc.Request` instead of {name!r}")
        if self._plan.frame is not None:
            raise self.error(f"both {self._plan.frame!r} and {name!r} would be the frame; if one of them is the model, name it 'model'")
        self._plan.frame, self._plan.frame_form = name, form
        self._plan.sources[name] = lambda inputs: inputs.frame

    def bind_dependency(self, name: str, dependency: Dependency) -> None:
        """Gives the parameter the value of a dependency."""
        self._plan.dependencies[name] = dependency
        self._plan.sources[name] = lambda inputs: inputs.dependencies[name]

    def bind_context(self, name: str, kind: type[Context]) -> None:
        """Gives the parameter the request's context.

        Raises:
            Declaration: The parameter is a raw request, and the endpoint is not raw.
        """
        if issubclass(kind, Request) and not self._available.raw:
            raise self.error(f"{name!r} is the raw request; add raw=True to @endpoint, or take svc.Context beside the frame")
        self._plan.unbatched = True
        self._plan.sources[name] = lambda inputs: inputs.context

    def bind_body(self, name: str) -> None:
        """Gives the parameter the body of a raw request."""
        self._plan.sources[name] = lambda inputs: inputs.context.body if isinstance(inputs.context, Request) else b""

    def bind_parameters(self, name: str, kind: type[BaseModel]) -> None:
        """Gives the parameter all of the path's parameters as an instance of a Pydantic model.

        Raises:
            Declaration: The cache_config has another spec, or the path lacks a field that the model requires.
        """
        spec = self._available.spec or kind
        if not issubclass(spec, kind):
            raise self.error(f"{name!r} is a {kind.__name__}, but its cache_config validates with {spec.__name__}; annotate with that")
        required = [each.alias or field for field, each in spec.model_fields.items() if each.is_required()]
        missing = [each for each in required if _squeezed(each) not in map(_squeezed, self._available.path)]
        if missing and self._available.spec is None:
            raise self.error(
                f"{spec.__name__} requires {missing}, which its path does not have; put {{{missing[0]}}} into the path or give the field a "
                "default"
            )
        self._plan.spec = spec
        self._plan.sources[name] = lambda inputs: inputs.validated

    def bind_request_parameters(self, name: str, kind: type[Parameters]) -> None:
        """Gives the parameter the parameters of the request.

        Raises:
            Declaration: Another parameter already takes them, the path has one of them too, or a query cannot hold one of them.
        """
        if self._plan.request_parameters is not None:
            raise self.error(f"{name!r} would be the second svc.Parameters; declare all parameters in one class")
        reader = ParameterReader(kind, f"endpoint {self._available.name}: {kind.__name__}")
        both = [each for each in reader.repeats if each in self._available.path]
        if both:
            raise self.error(f"its path and {kind.__name__} both have the parameter {both[0]!r}; rename one of them")
        self._plan.request_parameters = reader
        self._plan.sources[name] = lambda inputs: inputs.request_parameters

    def bind_path_parameter(self, name: str, annotation: Any) -> None:
        """Gives the parameter the value of the path's parameter of that name, in the type of the spec's field or of its own annotation.

        Raises:
            Declaration: Pydantic cannot make the annotated type from a string.
        """
        fields = [] if self._available.spec is None else [f for f in self._available.spec.model_fields if _squeezed(f) == _squeezed(name)]
        if fields:
            self._plan.spec = self._available.spec
            self._plan.sources[name] = lambda inputs: getattr(inputs.validated, fields[0])
            return
        if annotation is None or annotation is str:
            self._plan.sources[name] = lambda inputs: inputs.parameters[name]
            return
        try:
            validator = SpecValidator(create_model("Parameter", value=(annotation, Field(alias=name))))
        except PydanticSchemaGenerationError as exc:
            raise self.error(
                f"parameter {name!r} of the path cannot be a {annotation!r}; annotate it with a type that Pydantic makes of a string"
            ) from exc

        def value(parameters: Mapping[str, str]) -> object:
            return dict(validator.validate({name: parameters[name]}))["value"]

        self._plan.path_types[name] = annotation
        self._plan.path_checks.append(value)
        self._plan.sources[name] = lambda inputs: value(inputs.parameters)

    def error(self, message: str) -> Declaration:
        """Returns an error that names the endpoint."""
        return Declaration(f"endpoint {self._available.name}: {message}")


def _squeezed(name: str) -> str:
    """Returns a name without underscores and case, by which names are compared, as in `base.artifacts.spec.SpecValidator`."""
    return name.replace("_", "").lower()
