"""The UseCase component: defs.yaml becomes specs, specs become the lifecycle's assets."""

from collections.abc import Iterator

import dagster as dg
from dagster.components.core.context import ComponentLoadContext
from pydantic import BaseModel

from mlops_assets.adapters.compute_profiles import profiles
from mlops_assets.adapters.functions import Functions
from mlops_assets.components.scaffolder import UseCaseScaffolder
from mlops_assets.core.compute_stages import compute_problems
from mlops_assets.core.errors import SpecError
from mlops_assets.core.spec import UseCaseSpec, problems
from mlops_assets.lifecycle.use_case import use_case_definitions


@dg.scaffold_with(UseCaseScaffolder)
class UseCase(dg.Component):
    """One prediction problem: datasets, features, model, evaluation, promotion and endpoint.

    The folder's defs.yaml describes the problem and names the plain Python functions beside it.
    """

    def __init__(self, spec: UseCaseSpec, functions: Functions) -> None:
        self.spec = spec
        self.functions = functions

    @classmethod
    def get_model_cls(cls) -> type[BaseModel]:
        """The schema of ``attributes`` in defs.yaml."""
        return UseCaseSpec

    @classmethod
    def load(cls, attributes: BaseModel | None, context: ComponentLoadContext) -> "UseCase":
        """Check what needs more than one field, and that each named function is there."""
        if not isinstance(attributes, UseCaseSpec):
            raise dg.DagsterInvalidDefinitionError("a use case needs attributes in its defs.yaml")
        functions = Functions(context.defs_relative_module_name(context.path), context.path)
        found = [
            *problems(attributes),
            *compute_problems(attributes, profiles()),
            *function_problems(attributes, functions),
        ]
        if found:
            raise dg.DagsterInvalidDefinitionError(_report(found, context))
        return cls(attributes, functions)

    def build_defs(self, context: ComponentLoadContext) -> dg.Definitions:
        """The assets and checks of the use case."""
        del context
        return use_case_definitions(self.spec, self.functions)


def function_problems(spec: UseCaseSpec, functions: Functions) -> Iterator[SpecError]:
    """Each function that ``spec`` names and that cannot be called, found without importing it."""
    named: list[tuple[tuple[str, ...], str | None]] = []
    for name, dataset in spec.datasets.items():
        source = dataset.source if isinstance(dataset.source, str) else None
        named.append((("datasets", name, "source"), source))
        named.append((("datasets", name, "inventory"), dataset.inventory))
        named.append((("datasets", name, "suite"), dataset.suite))
    for name, view in spec.feature_views.items():
        named.append((("feature_views", name, "function"), view.function))
        named.append((("feature_views", name, "suite"), view.suite))
    named.append((("events", "function"), spec.events.function))
    named.append((("label", "function"), spec.label.function))
    for path, function in named:
        problem = functions.problem(function) if function is not None else None
        if problem:
            yield SpecError(path, problem)


def _report(found: list[SpecError], context: ComponentLoadContext) -> str:
    lines = [f"{_place(problem, context)}{problem}" for problem in found]
    return "the use case's description is wrong:\n  " + "\n  ".join(lines)


def _place(problem: SpecError, context: ComponentLoadContext) -> str:
    """``file:line: `` of the field, or of the closest thing around it that the YAML has."""
    tree = context.resolution_context.source_position_tree
    if tree is None:
        return ""
    position, _ = tree.lookup_closest_and_path(("attributes", *problem.path), trace=None)
    return f"{position}: "
