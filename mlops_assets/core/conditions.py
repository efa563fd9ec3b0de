"""What the state of models amounts to as alerts: drift, performance, retraining, promotion.

Each function takes what is open and says what holds, what ended, and what there is to notice.
A verdict that cannot tell opens nothing and ends nothing.
"""

from collections.abc import Collection, Sequence

from mlops_assets.core.alert_text import asset_page, run_page
from mlops_assets.core.alert_watch import Open, Seen, Teller, of_kind
from mlops_assets.core.alerts import Alert, Key, Severity
from mlops_assets.core.monitoring_records import (
    ALERTS,
    Alarm,
    AlarmKind,
    AlarmsRecord,
    DriftRecord,
    LossRecord,
    PerformanceRecord,
)
from mlops_assets.core.records import PromotionRecord
from mlops_assets.core.retraining_records import Decision, Training

MUCH_DRIFT = 4.0
"""Times the smallest drift that counts, from which on drift is critical."""

AUDIT_BIAS = 0.1
"""Error of the estimated loss, as a share of the holdout's, that makes estimates useless: a fall
of performance that matters is about as large."""

_OF_VERSIONS = ("version ", "estimates of version ")
"""How subjects begin that are about a model version, and not about a day."""

_TOLD_ALREADY: frozenset[AlarmKind] = frozenset({"missing_day", "volume"})
"""By deadlines and by the volume checks of datasets."""


def drift(
    teller: Teller, record: DriftRecord | None, limit: float, opened: Collection[Open]
) -> Seen:
    """Drift of the window that ended last; ``limit`` is the smallest that counts (0 to 1)."""
    if record is None:
        return Seen()
    subject = f"version {record.model_version}"
    ended = _other_versions(opened, "drift", subject, f"{subject} is watched now")
    if record.verdict == "drift":
        severity: Severity = "critical" if record.drift >= MUCH_DRIFT * limit else "warning"
        page = asset_page([teller.use_case, "drift"], record.day.isoformat())
        alert = teller.alert("drift", severity, subject, record.cause, page)
        return Seen((Open(alert=alert),), ended)
    if record.verdict == "stable":
        cause = f"drift is {record.drift:.3f} over the {record.days} days until {record.day}"
        ended |= {one.key: cause for one in of_kind(opened, "drift", subject)}
    return Seen(ended=ended)


def performance(teller: Teller, record: PerformanceRecord | None, opened: Collection[Open]) -> Seen:
    """Performance of the model that answers, realized, estimated, and how good the estimate is."""
    if record is None:
        return Seen()
    subject = f"version {record.model_version}"
    estimate = f"estimates of version {record.model_version}"
    page = asset_page([teller.use_case, "performance"], record.day.isoformat())
    ended = {
        one.key: f"{subject} is watched now"
        for one in of_kind(opened, "performance_loss")
        if one.alert.subject.startswith(_OF_VERSIONS)
        and one.alert.subject not in (subject, estimate)
    }
    holds: list[Open] = []
    fell = _fell(record)
    if fell is not None:
        how, severity, loss = fell
        cause = f"{how} {_loss(loss)} until {record.day}: {loss.reason}"
        alert = teller.alert("performance_loss", severity, subject, cause, page)
        holds.append(Open(alert=alert))
    elif (held := _held(record)) is not None:
        cause = f"{_loss(held)} until {record.day}: {held.reason}"
        ended |= {one.key: cause for one in of_kind(opened, "performance_loss", subject)}
    reference = _reference(record)
    if record.audit_bias is not None and reference is not None:
        bias = f"the estimated log-loss was {record.audit_bias:+.3f} off the realized one"
        of = f"in the mean of the audited days until {record.day}, on a holdout's {reference:.3f}"
        if abs(record.audit_bias) > AUDIT_BIAS * reference:
            cause = f"{bias} {of}: estimates before labels are not to be relied on"
            alert = teller.alert("performance_loss", "warning", estimate, cause, page)
            holds.append(Open(alert=alert))
        else:
            ended |= {
                one.key: f"{bias} {of}" for one in of_kind(opened, "performance_loss", estimate)
            }
    return Seen(tuple(holds), ended)


def _fell(record: PerformanceRecord) -> tuple[str, Severity, LossRecord] | None:
    if record.realized is not None and record.realized.verdict == "fell":
        return "realized", "critical", record.realized
    if record.estimated is not None and record.estimated.verdict == "fell":
        # Of newer days than the labels are, and a guess.
        return "estimated", "warning", record.estimated
    return None


def _held(record: PerformanceRecord) -> LossRecord | None:
    """What says that all is well: outcomes, and estimates only while there are none."""
    judged = record.realized or record.estimated
    return judged if judged is not None and judged.verdict == "held" else None


def _reference(record: PerformanceRecord) -> float | None:
    judged = record.realized or record.estimated
    return None if judged is None else judged.reference


def _loss(loss: LossRecord) -> str:
    known = loss.low is not None and loss.high is not None
    interval = f" ({loss.low:.3f} to {loss.high:.3f})" if known else ""
    return (
        f"log-loss {loss.loss:.3f}{interval} against {loss.reference:.3f} on its holdout, over "
        f"{loss.days} days and {loss.rows} rows"
    )


def day_alarms(teller: Teller, record: AlarmsRecord | None, opened: Collection[Open]) -> Seen:
    """What is wrong with the newest day, until a later one is as the weeks before it.

    A day that is not there, or has too few rows, has nothing of its contents judged: it ends
    nothing.
    """
    if record is None:
        return Seen()
    page = asset_page([teller.use_case, "drift"], record.day.isoformat())
    holds = tuple(
        Open(
            alert=teller.alert(
                ALERTS[alarm.kind], alarm.severity, _subject(alarm), alarm.cause, page
            )
        )
        for alarm in record.alarms
        if alarm.kind not in _TOLD_ALREADY
    )
    if any(alarm.kind in (*_TOLD_ALREADY, "repeated_day") for alarm in record.alarms):
        return Seen(holds)
    held = {one.key for one in holds}
    ended = {
        one.key: f"{record.day} is as the weeks before it"
        for one in opened
        if one.key not in held
        for kind, of in ALERTS.items()
        if one.alert.kind == of and f"{one.alert.subject} ".startswith(f"{kind} ")
    }
    return Seen(holds, ended)


def _subject(alarm: Alarm) -> str:
    # By the most telling column: the rest may come and go while it lasts, and is in the cause.
    return " ".join((alarm.kind, *alarm.columns[:1]))


def promotions(teller: Teller, decided: Sequence[PromotionRecord]) -> Seen:
    """Notices of decisions about challengers."""
    notices: list[Alert] = []
    for record in decided:
        version = f"version {record.version}"
        reason = record.reasons[0] if record.reasons else "no reason was given"
        page = asset_page([teller.use_case, "promotion"])
        if record.decision == "promoted":
            before = record.previous_version
            replaces = "is the first champion" if before is None else f"replaces version {before}"
            cause = f"{version} {replaces}: {reason}"
            notices.append(teller.alert("promoted", "info", version, cause, page))
            continue
        if record.decision == "admitted":
            continue  # Its rollout tells what comes of it.
        champion = record.champion
        if champion is not None and champion.version == record.version:
            continue  # The champion was evaluated again: nobody was refused.
        serves = f"version {champion.version} serves on" if champion else "no champion serves"
        held = record.decision == "held"
        cause = f"{version} was {record.decision} and {serves}: {reason}"
        subject = f"{version}, held" if held else version
        notices.append(teller.alert("refused", "warning", subject, cause, page))
    return Seen(notices=tuple(notices))


def trainings(teller: Teller, started: Sequence[Training], decisions: Sequence[Decision]) -> Seen:
    """Notices of trainings that have started, with the reasons of the decisions behind them."""
    reasons = {one.run_key: one.reasons for one in decisions if one.retrain}
    notices: list[Alert] = []
    for training in started:
        run = training.dagster_run_id
        by = "a person" if training.manual else "the policy"
        why = "; ".join(reasons.get(training.run_key, ())) or "no reason is recorded"
        cause = (
            f"{by} trains again on the signal of {training.signal_day}, attempt "
            f"{training.attempt}, while version {training.champion_version} serves: {why}"
        )
        page = run_page(run) if run else asset_page([teller.use_case, "retraining"])
        notices.append(teller.alert("retraining_started", "info", training.run_key, cause, page))
    return Seen(notices=tuple(notices))


def put_off(teller: Teller, decision: Decision | None, opened: Collection[Open]) -> Seen:
    """A retraining that the month's budget holds back."""
    if decision is None:
        return Seen()
    known = of_kind(opened, "retraining_put_off")
    if decision.put_off != "budget" or decision.signal_id is None:
        return Seen(ended={one.key: "the budget holds no retraining back" for one in known})
    why = "; ".join(decision.reasons)
    cause = f"signal {decision.signal_id} waits for budget: {why}"
    page = asset_page([teller.use_case, "retraining"])
    alert = teller.alert("retraining_put_off", "warning", decision.signal_id, cause, page)
    ended = {one.key: "another signal waits now" for one in known if one.key != alert.key}
    return Seen((Open(alert=alert),), ended)


def _other_versions(
    opened: Collection[Open], kind: str, subject: str, cause: str
) -> dict[Key, str]:
    return {
        one.key: cause
        for one in opened
        if one.alert.kind == kind
        and one.alert.subject.startswith(_OF_VERSIONS)
        and one.alert.subject != subject
    }
