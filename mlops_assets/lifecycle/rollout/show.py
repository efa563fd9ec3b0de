"""For the terminal: what replicas run, as a table; a policy, from a file."""

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from mlops_assets.core.errors import PermanentError
from mlops_assets.core.replica_reports import ReplicaReport, is_stale
from mlops_assets.core.rollout_spec import RolloutSpec, problems
from mlops_assets.core.rollout_state import Release


def replicas_markdown(reports: Sequence[ReplicaReport], release: Release, now: datetime) -> str:
    """A Markdown table of the replicas that live, and whether they follow ``release``."""
    lines = [
        "| replica | revision | champion | challenger | ready | requests | errors | says |",
        "|---|---:|---:|---:|---|---:|---:|---|",
    ]
    for report in reports:
        if report.ended or is_stale(report, now):
            continue
        revision = str(report.revision)
        if report.revision != release.revision:
            revision += f" (wanted: {release.revision})"
        requests = sum(part.requests for part in report.totals)
        errors = sum(part.errors for part in report.totals)
        says = (report.error or "").replace("|", "\\|").replace("\n", " ")
        lines.append(
            f"| {report.replica} | {revision} | {report.champion or ''} "
            f"| {report.challenger or ''} | {'yes' if report.ready else '**no**'} | {requests} "
            f"| {errors} | {says} |"
        )
    if len(lines) == 2:
        return "No replica has reported in the last seconds."
    return "\n".join(lines)


def policy_of(path: Path) -> RolloutSpec:
    """The policy in a YAML file, with or without the key ``rollout`` around it.

    Raises PermanentError for a file that holds none.
    """
    import yaml
    from pydantic import ValidationError

    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
        policy = RolloutSpec.model_validate(content.get("rollout", content))
    except (OSError, yaml.YAMLError, AttributeError, ValidationError) as error:
        raise PermanentError(
            f"{path} holds no rollout policy: write fields like shadow_minutes ({error})"
        ) from error
    for problem in problems(policy):
        raise PermanentError(f"{path}: {problem}")
    return policy
