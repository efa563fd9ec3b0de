"""The second model: compared with the champion on the same rows, and served in its place."""

from lifecycle_support import Project

from mlops_assets.adapters import ledger
from mlops_assets.core.records import EvaluationRecord, PromotionRecord
from mlops_assets.core.rollout_state import EndpointRecord

DATA = ("2024-03-01", "2024-04-14")
STAGES = ["training_set", "model", "evaluation", "promotion", "endpoint"]


def _window(end: str, days: int) -> dict[str, object]:
    return {"ops": {"visits__training_set": {"config": {"end": end, "days": days}}}}


def test_a_newer_model_is_judged_against_the_champion_and_replaces_it_in_the_running_server(
    project: Project,
) -> None:
    """Same rows, same process, another model; the ledger tells the story in order."""
    assert project.run(["visits", "shops"], DATA).success
    assert project.run(["visit", "shop_returns", "shop_sizes"], DATA).success
    first = project.run(STAGES, config=_window("2024-04-05", 20))
    assert first.success
    second = project.run(STAGES, config=_window("2024-04-14", 40))
    assert second.success
    evaluation: EvaluationRecord = second.asset_value(project.key("evaluation"))
    assert evaluation.champion_version == 1
    assert evaluation.champion is not None
    assert evaluation.champion.rows == evaluation.challenger.rows
    promotion: PromotionRecord = second.asset_value(project.key("promotion"))
    before: EndpointRecord = first.asset_value(project.key("endpoint"))
    after: EndpointRecord = second.asset_value(project.key("endpoint"))
    assert after.pid == before.pid
    served = 2 if promotion.decision == "promoted" else 1
    assert after.release.champion.version == served
    assert promotion.previous_version == 1
    decisions = ledger.decisions(project.ledgers, "visits")
    assert [(d.version, d.decision) for d in decisions] == [
        (1, "promoted"),
        (2, promotion.decision),
    ]


def test_without_a_champion_there_is_no_endpoint_and_the_error_says_why(project: Project) -> None:
    """A gate that nothing passes leaves nothing to serve."""
    attributes = project.spec.model_dump()
    attributes["gate"]["rules"] = [{"metric": "log_loss", "against": "base_rate", "at_least": 0.6}]
    strict = Project(
        type(project.spec).model_validate(attributes),
        project.places,
        project.instance,
        project.faults_file,
    )
    assert strict.run(["visits", "shops"], DATA).success
    assert strict.run(["visit", "shop_returns", "shop_sizes"], DATA).success
    result = strict.run(STAGES)
    assert not result.success
    promotion: PromotionRecord = result.asset_value(project.key("promotion"))
    assert promotion.decision == "refused"
    error = str(result.get_step_failure_events()[0].step_failure_data.error)
    assert "has no champion: version 1 was refused" in error
