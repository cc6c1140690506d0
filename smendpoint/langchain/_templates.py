"""LangChain's prompt template."""

from __future__ import annotations

from typing import TYPE_CHECKING

from smendpoint import prompts
from smendpoint.errors import PromptError
from smendpoint.langchain._base import refuse
from smendpoint.prompts import quoted

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["PromptTemplate"]


class PromptTemplate(prompts.PromptTemplate):
    """:class:`smendpoint.PromptTemplate` with the arguments of LangChain's class.

    Args:
        template: the text with ``{name}`` fields.
        input_variables: the names of the fields, which must match the template; by default they are found there.
        partial_variables: values for some fields, filled in now.
        template_format: ``"f-string"``; LangChain's other formats run code or have no limits, and are refused.
        validate_template: has no effect, because every template is validated.

    Raises:
        PromptError: the text is not a template, or ``input_variables`` are not its fields.
    """

    __slots__ = ()

    def __init__(
        self,
        template: str,
        input_variables: Iterable[str] | None = None,
        *,
        partial_variables: Mapping[str, object] | None = None,
        template_format: str = "f-string",
        validate_template: bool = False,
        **unknown: None,
    ) -> None:
        refuse("PromptTemplate", unknown)
        if template_format != "f-string":
            raise PromptError(f"template_format must be 'f-string', not {template_format!r}")
        super().__init__(template)
        if partial_variables:
            self._assign(*self.partial(**partial_variables).__getstate__())
        fields = self.input_variables
        given = fields if input_variables is None else tuple(input_variables)
        if set(given) != set(fields):
            raise PromptError(
                f"input_variables are {quoted(given)}, but the fields of the template are {quoted(fields)}"
            )

    @classmethod
    def from_template(
        cls,
        template: str,
        *,
        template_format: str = "f-string",
        partial_variables: Mapping[str, object] | None = None,
    ) -> PromptTemplate:
        """Make a template, and find its ``input_variables`` in the text."""
        return cls(template, partial_variables=partial_variables, template_format=template_format)
