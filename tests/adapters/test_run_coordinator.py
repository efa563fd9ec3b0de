"""The run queue that tags runs with their use case and team."""

import dagster as dg
import pytest
from dagster._core.test_utils import (
    create_run_for_test,
    in_process_test_workspace,
    instance_for_test,
)
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin
from hypothesis import given
from hypothesis import strategies as st

from mlops_assets.adapters.run_coordinator import SEVERAL, TEAM, USE_CASE, attribution


@dg.asset(key=["visits", "model"], owners=["who@example.com", "team:shops"])
def visits_model():
    """One use case's."""


@dg.asset(key=["delays", "model"], owners=["team:flights"])
def delays_model():
    """Another's."""


@dg.asset_check(asset=["visits", "model"])
def visits_check():
    """A check can be run without its asset."""
    return dg.AssetCheckResult(passed=True)


defs = dg.Definitions(
    assets=[visits_model, delays_model],
    asset_checks=[visits_check],
    jobs=[dg.define_asset_job("visits_job", [dg.AssetKey(["visits", "model"])])],
)

VISITS = dg.AssetKey(["visits", "model"])
DELAYS = dg.AssetKey(["delays", "model"])


@pytest.fixture(scope="module")
def submit():
    """A function that submits a run as the webserver does, and gives it back as it is queued."""
    queue = {
        "module": "mlops_assets.adapters.run_coordinator",
        "class": "UseCaseRunCoordinator",
        "config": {"dequeue_interval_seconds": 1},
    }
    with (
        instance_for_test(overrides={"run_coordinator": queue}) as instance,
        in_process_test_workspace(
            instance, LoadableTargetOrigin(python_file=__file__, attribute="defs")
        ) as workspace,
    ):
        (location,) = workspace.code_locations
        (repository,) = location.get_repositories().values()

        def submitted(job="__ASSET_JOB", **chosen):
            remote = repository.get_full_job(job)
            run = create_run_for_test(
                instance,
                remote.name,
                remote_job_origin=remote.get_remote_origin(),
                job_code_origin=remote.get_python_origin(),
                **chosen,
            )
            instance.submit_run(run.run_id, workspace)
            found = instance.get_run_by_id(run.run_id)
            assert found.status == dg.DagsterRunStatus.QUEUED
            return found.tags

        yield submitted


def test_a_run_launched_by_hand_says_whose_it_is(submit):
    """As from the UI: assets, and no tags."""
    tags = submit(asset_selection=frozenset([VISITS]))
    assert (tags[USE_CASE], tags[TEAM]) == ("visits", "shops")


def test_a_run_of_checks_says_whose_it_is(submit):
    """It has no assets of its own."""
    check = dg.AssetCheckKey(VISITS, "visits_check")
    tags = submit(asset_selection=frozenset(), asset_check_selection=frozenset([check]))
    assert (tags[USE_CASE], tags[TEAM]) == ("visits", "shops")


def test_a_run_of_several_has_a_limit_of_its_own(submit):
    """A tag has one value; such a run is counted too, under its own."""
    tags = submit(asset_selection=frozenset([VISITS, DELAYS]))
    assert (tags[USE_CASE], tags[TEAM]) == (SEVERAL, SEVERAL)


def test_a_tag_given_by_hand_does_not_pass_a_run_off_as_anothers(submit):
    """Else a limit would be a matter of choice."""
    tags = submit(asset_selection=frozenset([VISITS]), tags={USE_CASE: "delays", "mine": "kept"})
    assert (tags[USE_CASE], tags["mine"]) == ("visits", "kept")


def test_an_asset_that_is_gone_does_not_stop_a_run(submit):
    """The code location was loaded anew between the launch and now: the use case is in the key."""
    tags = submit(asset_selection=frozenset([dg.AssetKey(["visits", "gone"])]))
    assert tags[USE_CASE] == "visits"
    assert TEAM not in tags


def test_a_run_without_assets_is_queued_as_it_is(submit):
    """Nobody's: only the limit of all runs counts it."""
    assert USE_CASE not in submit("visits_job")


names = st.from_regex(r"[a-z][a-z0-9_]{0,20}", fullmatch=True)
owners = st.lists(st.one_of(names.map("team:{}".format), st.emails()), max_size=3)


@given(st.dictionaries(st.tuples(names, names), owners, min_size=1, max_size=8))
def test_tags_depend_on_what_is_selected_and_not_on_its_order(assets):
    """Each tag is the one value that all share, or says that there are several."""
    found = {dg.AssetKey(list(path)): named for path, named in assets.items()}
    tags = attribution(found, found.__getitem__)
    assert tags == attribution(reversed(list(found)), found.__getitem__)
    use_cases = {path[0] for path in assets}
    assert tags[USE_CASE] == (next(iter(use_cases)) if len(use_cases) == 1 else SEVERAL)
    assert (TEAM in tags) == any(assets.values())
    assert all(len(value) <= 255 and not value.startswith("team:") for value in tags.values())
