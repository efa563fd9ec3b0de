"""Challengers in the pods of an endpoint that is asked all the time: no request fails.

The platform's daemon runs the sensor that decides. Persons give their orders where the platform's
code is, in the pod of the code server, with its rights.
"""

import contextlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime

import pytest
from cluster import ENDPOINTS, ENVIRONMENT, Cluster, kubectl, until
from cluster_images import GUARDED
from cluster_load import Answered, Load, load
from cluster_models import BEYOND, Files, damaged, failing, register
from cluster_rollout import Told, Watch, order, pods, watched
from cluster_runs import Run, launch, sensor
from services import CREDENTIALS

from mlops_assets.adapters import ledger
from mlops_assets.adapters.chain import Ledgers
from mlops_assets.adapters.endpoints.kubernetes_objects import object_name
from mlops_assets.adapters.tracking import Tracking
from mlops_assets.core.ledger_replay import replayed_ledger
from mlops_assets.core.promotion_ledger import POLICY, Decided, LedgerRecord, serves
from mlops_assets.core.records import ModelRecord
from mlops_assets.core.rollout_state import Release, side
from mlops_assets.core.rollout_text import live_at

NAME = object_name(GUARDED)
PORT = 8931
DAYS = ("2024-03-01", "2024-04-11")
OTHER_DAYS = {"end": "2024-04-06", "days": 20}
"""Of the challenger's training."""

FOLLOW_S = 10.0
"""Pods look each second. That two shared CPUs are busy with something else meanwhile is no fault of
theirs; what they took is printed."""

SETTLED_S = 1.0
"""Before a change is seen its document was written; a request is answered in less."""


def request(minutes: float) -> dict[str, object]:
    """One visit."""
    values = {"minutes": minutes, "shop_return_share": 0.4, "shop_size": 3.0}
    numbers = [
        {"name": name, "shape": [1], "datatype": "FP64", "data": [value]}
        for name, value in values.items()
    ]
    shop = {"name": "shop_name", "shape": [1], "datatype": "BYTES", "data": ["north"]}
    return {"inputs": [*numbers, shop]}


@dataclass
class Callers:
    """Who asks, and what was answered once they have ended."""

    load: Load
    answers: list[Answered] = field(default_factory=list)
    slowest: float = 0.0

    def begin_with_large_values(self) -> None:
        """Ask for what a failing model fails on; return once such a request was answered."""
        self.load.change()
        until(
            lambda: any(each.body == 1 for each in self.load.all_answered()),
            60,
            "an answer to a large value",
        )

    @property
    def cause(self) -> float:
        """When the first of those requests was sent. Answers come in another order."""
        return min(each.began for each in self.answers if each.body == 1)

    def between(self, first: float, last: float) -> list[Answered]:
        """The answers to requests that were sent meanwhile."""
        return [each for each in self.answers if first <= each.began < last]


@contextlib.contextmanager
def asked() -> Iterator[Callers]:
    """The endpoint is asked by many callers, and each request is answered."""
    path = f"/v2/models/{GUARDED}/infer"
    with load(NAME, PORT, path, request(5.0), request(3 * BEYOND)) as sent:
        callers = Callers(sent)
        yield callers
        sent.goes_on()
        found = sent.end()
        callers.answers, callers.slowest = sent.all_answered(), found["slowest"]
    print(json.dumps(found))  # for the report of what was seen
    assert found["failed"] == 0, found["failures"]


@dataclass(frozen=True)
class Place:
    """The use case with guarded rollouts, on the cluster."""

    cluster: Cluster
    tracking: Tracking
    ledgers: Ledgers

    def records(self) -> list[LedgerRecord]:
        """Each entry of its ledger."""
        return ledger.everything(self.ledgers, GUARDED)

    def champion(self) -> ModelRecord:
        """Which model the registry calls so."""
        found = self.tracking.champion(GUARDED)
        assert found is not None
        return found

    def aliases(self, champion: int) -> bool:
        """Whether ``champion`` is the registry's, which has no challenger."""
        return self.champion().version == champion and self.tracking.challenger(GUARDED) is None

    def registered(self, files: Callable[[ModelRecord], Files]) -> int:
        """The number of a new version, made of the champion's."""
        like = self.champion()
        return register(self.tracking, like, files(like))

    def decisions(self, rollout_id: str) -> list[tuple[str, str]]:
        """What was decided about a rollout, waits aside, and by whom."""
        return [
            (record.decision.action, record.by)
            for record in self.records()
            if isinstance(record, Decided)
            and record.decision.rollout_id == rollout_id
            and record.decision.action != "wait"
        ]


@pytest.fixture(scope="module")
def place(cluster: Cluster) -> Iterator[Place]:
    """Its first model serves, and the daemon looks at its rollouts."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {**CREDENTIALS, "AWS_ENDPOINT_URL": cluster.s3}.items():
            patch.setenv(name, value)
        patch.setenv("AWS_ALLOW_HTTP", "true")
        data = ["visits", "shops", "visit", "shop_returns", "shop_sizes", "training_set"]
        launch(cluster, GUARDED, data, DAYS).succeeded(600)
        launch(cluster, GUARDED, ["model", "evaluation", "promotion", "endpoint"]).succeeded(600)
        tracking = Tracking(cluster.tracking, ENVIRONMENT["MLOPS_ARTIFACTS_URL"])
        with sensor(cluster, f"{GUARDED}_rollout"):
            yield Place(cluster, tracking, Ledgers(ENVIRONMENT["MLOPS_LAKE_URL"]))
        kubectl("delete", "deployment", NAME, "--namespace", ENDPOINTS)


def test_a_challenger_becomes_champion_without_a_new_pod_and_callers_stay_on_their_side(
    place: Place,
) -> None:
    """Shadow, canary, champion: the sensor decides on what the pods have counted."""
    before = {(pod["metadata"]["name"], restarts(pod)) for pod in pods(GUARDED)}
    first = place.champion().version
    with asked() as callers, watched(GUARDED) as watch:
        stages = ["training_set", "model", "evaluation", "promotion", "endpoint"]
        launch(place.cluster, GUARDED, stages, config={"training_set": OTHER_DAYS}).succeeded(600)
        shadow = watch.until(lambda found: found.mode == "shadow", "the shadow")
        canary = watch.until(lambda found: found.mode == "canary", "the canary")
        promoted = watch.until(lambda found: found.mode == "watch", "the promotion")
        second = promoted.release.champion.version
        until(lambda: place.aliases(second), 60, "the registry's aliases")
    assert second > first
    assert {(pod["metadata"]["name"], restarts(pod)) for pod in pods(GUARDED)} == before

    in_shadow = callers.between(shadow.seen, canary.seen - SETTLED_S)
    assert {each.version for each in in_shadow} == {first}
    in_canary = callers.between(after(canary), promoted.seen - SETTLED_S)
    sides = {"champion": first, "challenger": second}
    assert {(each.key, each.version) for each in in_canary} == {
        (key, sides[side(canary.release, key)]) for key in {each.key for each in in_canary}
    }
    assert {each.version for each in in_canary} == {first, second}
    assert {each.version for each in callers.between(after(promoted), 1e18)} == {second}

    rollout = promoted.release.rollout_id
    assert place.decisions(rollout) == [("step", POLICY), ("promote", POLICY)]
    found = replayed_ledger(place.records())
    assert found.replayed == tuple(decision for decision, _ in found.live)
    agrees_with_the_ledger(place, watch.told)
    said = order(GUARDED, "at", datetime.fromtimestamp(after(canary), UTC).isoformat())
    assert f"version {first}; version {second} in canary, for 50% of the callers" in said
    tell(watch, callers, f"{len(in_canary)} requests in canary")


def test_a_challenger_that_fails_in_canary_is_dropped(place: Place) -> None:
    """The champion answers in its place until the sensor has seen it."""
    champion, version = place.champion().version, place.registered(fails)
    with asked() as callers, watched(GUARDED) as watch:
        order(GUARDED, "start", "--version", str(version), "--reason", "a test")
        canary = watch.until(lambda found: canaries(found, version), "the canary")
        callers.load.goes_on(60)
        callers.begin_with_large_values()
        back = watch.until(lambda found: alone(found, canary.release), "its end")
        until(lambda: place.aliases(champion), 60, "the registry's aliases")
    assert back.release.champion.version == champion
    assert {each.version for each in callers.between(after(canary), callers.cause)} == {
        champion,
        version,
    }
    assert {each.version for each in callers.answers if each.body == 1} == {champion}
    decisions = place.decisions(canary.release.rollout_id)
    assert decisions == [("step", POLICY), ("abort", POLICY)]
    agrees_with_the_ledger(place, watch.told)
    tell(watch, callers, restored(callers, back))


def test_a_champion_that_begins_to_fail_is_taken_back(place: Place) -> None:
    """The former champion answers at once, and soon it alone. A person promotes it, or the policy
    where the machine is so busy that the person comes second.
    """
    champion, version = place.champion().version, place.registered(fails)
    with asked() as callers, watched(GUARDED) as watch:
        order(GUARDED, "start", "--version", str(version), "--reason", "a test")
        order(GUARDED, "promote", "--reason", "it is only a test")
        promoted = watch.until(lambda found: champions(found, version), "the promotion")
        callers.load.goes_on(60)
        callers.begin_with_large_values()
        back = watch.until(lambda found: alone(found, promoted.release), "its end")
        until(lambda: place.aliases(champion), 60, "the registry's aliases")
    assert back.release.champion.version == champion
    assert {each.version for each in callers.between(after(promoted), callers.cause)} == {version}
    assert {each.version for each in callers.answers if each.body == 1} == {champion}
    decisions = place.decisions(promoted.release.rollout_id)
    promotion, end = (one for one in decisions if one[0] != "step")
    assert promotion in {("promote", "ann"), ("promote", POLICY)}
    assert end == ("rollback", POLICY)
    agrees_with_the_ledger(place, watch.told)
    tell(watch, callers, restored(callers, back))


def test_a_challenger_that_no_pod_can_load_ends_at_once(place: Place) -> None:
    """Its file is cut: the pods say so, and nobody waits for it."""
    champion, version = place.champion().version, place.registered(damaged)
    with asked() as callers, watched(GUARDED) as watch:
        order(GUARDED, "start", "--version", str(version), "--reason", "a test")
        begun = watch.until(lambda found: tries(found, version), "the beginning")
        back = watch.until(lambda found: alone(found, begun.release), "its end")
    assert back.release.champion.version == champion
    assert {each.version for each in callers.answers} == {champion}
    assert place.decisions(begun.release.rollout_id) == [("abort", POLICY)]
    # The entry about a refusal has the time of the look that found it: it began before the pods
    # were told, so that the ledger does not show the moment in between.
    agrees_with_the_ledger(place, [watch.told[0], back])
    tell(watch, callers, f"{back.seen - begun.seen:.1f} s until it was taken back")


def test_each_change_was_shown(place: Place) -> None:
    """By a run of the asset `rollout` that the sensor asked for; each went well."""
    tag = {"key": "dagster/sensor_name", "value": f"{GUARDED}_rollout"}
    query = """query($filter: RunsFilter!) {
      runsOrError(filter: $filter) { ... on Runs { results { runId } } }
    }"""
    found = place.cluster.graphql(query, filter={"tags": [tag]})["runsOrError"]["results"]
    assert found
    for run in found:
        Run(place.cluster, run["runId"]).succeeded(300)


def fails(like: ModelRecord) -> Files:
    """Files that fail on what callers begin to send."""
    return failing(like, "minutes")


def canaries(found: Release, version: int) -> bool:
    """Whether ``version`` answers some callers."""
    return found.mode == "canary" and tries(found, version)


def tries(found: Release, version: int) -> bool:
    """Whether ``version`` is the challenger."""
    return found.challenger is not None and found.challenger.version == version


def champions(found: Release, version: int) -> bool:
    """Whether ``version`` answers all callers."""
    return found.champion.version == version


def alone(found: Release, since: Release) -> bool:
    """Whether a rollout is over that was under way in ``since``."""
    return found.revision > since.revision and found.mode == "champion"


def restarts(pod: dict) -> int:
    """How often its server was started again."""
    return sum(status["restartCount"] for status in pod["status"]["containerStatuses"])


def after(told: Told) -> float:
    """When all pods served it."""
    return max(told.applied.values())


def agrees_with_the_ledger(place: Place, releases: list[Told]) -> None:
    """What the ledger says about each moment is what the pods were told then."""
    records = place.records()
    for told in releases:
        state = live_at(records, datetime.fromtimestamp(told.seen, UTC))
        assert state.wanted is not None
        assert serves(told.release, state.wanted), (told, state.wanted)
        assert told.follow_s < FOLLOW_S, told


def restored(callers: Callers, back: Told) -> str:
    """What became of the requests that a model failed on."""
    cause = callers.cause
    hit = [each for each in callers.answers if each.body == 1]
    first = min(each.began + each.seconds for each in hit) - cause
    meanwhile = sum(each.began < after(back) for each in hit)
    return (
        f"cause to the first answer {first * 1000:.0f} ms, to the document {back.seen - cause:.1f} "
        f"s, until it is out of all pods {after(back) - cause:.1f} s; {meanwhile} requests "
        "meanwhile, 0 failed"
    )


def tell(watch: Watch, callers: Callers, what: str) -> None:
    """Print what was seen."""
    followed = ", ".join(
        f"{told.release.mode} of version {told.release.champion.version} {told.follow_s:.2f} s"
        for told in watch.told[1:]
    )
    print(f"{len(callers.answers)} requests, slowest {callers.slowest:.2f} s; {what}")
    print(f"document to the last pod: {followed}")
