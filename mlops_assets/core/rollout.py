"""Rollouts: a pure function from policy, state, evidence and time to what to do next.

A guarded rollout goes through shadow (both models score each request, the champion's answers are
returned), canary (the challenger answers a growing share of the callers) and, once promoted, a
watch, in which the former champion goes on scoring for comparison. An immediate one begins with
the watch. The guards (:mod:`~mlops_assets.core.rollout_guards`) hold at any time of looking, so
that nothing depends on when, or how often, a decision is asked for.

Time alone aborts and promotes nothing: without evidence a rollout waits, and after a while its
decisions say that a person should look.
"""

import hashlib
from datetime import UTC, datetime, timedelta

from mlops_assets.core.errors import PermanentError
from mlops_assets.core.rollout_guards import verdicts
from mlops_assets.core.rollout_records import (
    Action,
    Evidence,
    GuardVerdict,
    Rollout,
    RolloutDecision,
)
from mlops_assets.core.rollout_spec import RolloutSpec

_RECORDED_EVERY = timedelta(hours=1)


def begin(
    spec: RolloutSpec,
    *,
    use_case: str,
    rollout_id: str,
    champion: int,
    challenger: int,
    now: datetime,
) -> Rollout:
    """The rollout of ``challenger`` at its first stage; in the watch where it is immediate."""
    if spec.strategy == "immediate":
        stage, share = "watch", 1.0
    elif spec.shadow_minutes > 0 or not spec.steps:
        stage, share = "shadow", 0.0
    else:
        stage, share = "canary", spec.steps[0]
    return Rollout(
        use_case=use_case,
        rollout_id=rollout_id,
        champion=champion,
        challenger=challenger,
        stage=stage,
        share=share,
        started_at=_utc(now),
        stage_since=_utc(now),
        stage_requests=0,
    )


def decide(
    spec: RolloutSpec, rollout: Rollout, evidence: Evidence, now: datetime
) -> RolloutDecision:
    """What to do about ``rollout`` at ``now``, given all evidence since it began.

    The same for the same arguments, whatever was decided before. Raises PermanentError for a time
    without a time zone.
    """
    if now.utcoffset() is None:
        raise PermanentError(f"the time {now} has no time zone: give it in UTC")
    found = verdicts(spec, evidence, now)
    against = [verdict.reason for verdict in found if verdict.verdict == "abort"]
    against += _not_ready(spec, evidence, now)
    age = now - rollout.started_at
    action: Action = "wait"
    share = rollout.share
    if rollout.stage == "watch":
        until = rollout.stage_since + timedelta(hours=spec.watch_hours)
        if against:
            action, share, reasons = "rollback", 0.0, against
        elif now >= until:
            action, reasons = "settle", [f"{spec.watch_hours:g} hours have passed without a reason"]
        else:
            reasons = [f"watched until {until.isoformat()}"]
    elif against:
        action, share, reasons = "abort", 0.0, against
    else:
        share = _next_share(spec, rollout)
        reasons = _missing(spec, rollout, found, evidence, now, last=share == 1)
        if reasons:
            share = rollout.share
        else:
            action = "promote" if share == 1 else "step"
            reasons = ["nothing is missing"]
    overdue = rollout.stage != "watch" and age >= timedelta(days=spec.max_age_days)
    if overdue:
        reasons.append(
            f"it began {age / timedelta(days=1):.1f} days ago, more than {spec.max_age_days:g}: "
            "look at what it waits for, and promote or abort it by hand"
        )
    if action == "wait" or not against:
        reasons += [verdict.reason for verdict in found]
    return RolloutDecision(
        use_case=rollout.use_case,
        rollout_id=rollout.rollout_id,
        decided_at=_utc(now),
        stage=rollout.stage,
        share=rollout.share,
        action=action,
        share_after=share,
        guards=found,
        reasons=tuple(reasons),
        overdue=overdue,
        requests=evidence.requests,
        inputs=_digest(spec, rollout, evidence),
    )


def after(spec: RolloutSpec, rollout: Rollout, decision: RolloutDecision) -> Rollout | None:
    """``rollout`` once ``decision`` is taken; None where it is over."""
    if decision.action == "wait":
        return rollout
    if decision.action == "promote" and spec.watch_hours > 0:
        stage = "watch"
    elif decision.action == "step":
        stage = "canary"
    else:
        return None
    return rollout.model_copy(
        update={
            "stage": stage,
            "share": decision.share_after,
            "stage_since": decision.decided_at,
            "stage_requests": decision.requests,
        }
    )


def is_news(last: RolloutDecision | None, decision: RolloutDecision) -> bool:
    """Whether ``decision`` belongs into the ledger after ``last``, the newest one there.

    A wait for the same verdicts is recorded once an hour.
    """
    if last is None or decision.action != "wait" or _answer(last) != _answer(decision):
        return True
    return abs(decision.decided_at - last.decided_at) >= _RECORDED_EVERY


def _answer(decision: RolloutDecision) -> tuple[object, ...]:
    said = tuple((verdict.guard, verdict.verdict) for verdict in decision.guards)
    place = (decision.rollout_id, decision.stage, decision.share, decision.action)
    return (*place, decision.overdue, said)


def _next_share(spec: RolloutSpec, rollout: Rollout) -> float:
    """The share of the next step; 1 for a promotion."""
    return next((share for share in spec.steps if share > rollout.share), 1.0)


def _missing(
    spec: RolloutSpec,
    rollout: Rollout,
    found: tuple[GuardVerdict, ...],
    evidence: Evidence,
    now: datetime,
    *,
    last: bool,
) -> list[str]:
    """What is missing for the next step or, where it is the ``last``, for the promotion."""
    missing: list[str] = []
    minutes = spec.shadow_minutes if rollout.stage == "shadow" else spec.step_minutes
    until = rollout.stage_since + timedelta(minutes=minutes)
    if now < until:
        missing.append(f"waits in {rollout.stage} at {rollout.share:.0%} until {until.isoformat()}")
    seen = evidence.requests - rollout.stage_requests
    if rollout.stage == "canary" and seen < spec.step_requests:
        missing.append(f"{seen} requests at this step, of {spec.step_requests}")
    if evidence.readiness is not None and evidence.readiness.waiting_since is not None:
        missing.append("a replica is not ready")
    waited_for = [
        verdict.guard
        for verdict in found
        if verdict.verdict != "promote"
        and (verdict.guard != "quality" or _needs_quality(spec, last))
    ]
    return [*missing, *(f"waits for {guard}" for guard in waited_for)]


def _needs_quality(spec: RolloutSpec, last: bool) -> bool:
    required = spec.quality.required if spec.quality else "never"
    return required == "canary" or (required == "promotion" and last)


def _not_ready(spec: RolloutSpec, evidence: Evidence, now: datetime) -> list[str]:
    """Why the replicas do not run the challenger, if they should by now."""
    known = evidence.readiness
    if known is None:
        return []
    found = [f"a replica cannot load its models: {error}" for error in known.failed]
    since = known.waiting_since
    if since is not None and now - since > timedelta(seconds=spec.ready_within_seconds):
        found.append(
            f"a replica has not been ready since {since.isoformat()}, longer than "
            f"{spec.ready_within_seconds:g} seconds"
        )
    return found


def _digest(spec: RolloutSpec, rollout: Rollout, evidence: Evidence) -> str:
    described = (spec, rollout, evidence)
    text = "\n".join(part.model_dump_json() for part in described)
    return hashlib.sha256(text.encode()).hexdigest()


def _utc(moment: datetime) -> datetime:
    return moment.astimezone(UTC)
