"""Compute profiles: validated where they are written, and named by use cases."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from mlops_assets.adapters.compute_profiles import OWN_FILE_VARIABLE, profile_named, profiles
from mlops_assets.adapters.prices import price_of
from mlops_assets.core.compute import (
    PLACE_TAG,
    PROFILE_TAG,
    amount,
    check_fallbacks,
    op_tags,
    parse_profiles,
    pod_config,
)
from mlops_assets.core.compute_stages import compute_problems, profile_name
from mlops_assets.core.errors import PermanentError
from mlops_assets.core.spec import UseCaseSpec

VISITS = Path(__file__).parents[1] / "support" / "visits" / "defs.yaml"

SOUND: dict[str, Any] = {
    "description": "A test's.",
    "capacity": "spot",
    "price": "gpu_spot",
    "gpu": "required",
    "requests": {"cpu": "2"},
    "limits": {"nvidia.com/gpu": "1", "memory": "8Gi"},
}


def spec_with(**compute: str) -> UseCaseSpec:
    """The tests' use case with these profiles."""
    attributes = yaml.safe_load(VISITS.read_text())["attributes"]
    return UseCaseSpec.model_validate(attributes | {"compute": compute})


def test_the_platforms_profiles_are_sound_and_each_has_a_price() -> None:
    """The four that use cases name, and what they fall back to."""
    known = profiles()
    assert {"cpu", "cpu_spot", "gpu_spot", "gpu_on_demand"} <= set(known)
    assert known["cpu"].pod == "worker"
    for name, profile in known.items():
        assert price_of(name).per_hour > 0
        if profile.capacity == "spot":
            assert profile.fallback is not None
            assert profile.node_selector["karpenter.sh/capacity-type"] == "spot"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"requests": {"cpu": "two"}}, "profiles.mine.requests.cpu"),
        ({"requests": {"cpu": "0"}}, "requests.cpu is 0"),
        ({"limits": {"nvidia.com/gpu": "1", "memory": "8"}}, "is the unit missing"),
        ({"limits": {"nvidia.com/gpu": "0.5"}}, "a GPU is not divided"),
        ({"requests": {"memory": "16Gi"}}, "above the limit 8Gi; swap them"),
        ({"requests": {"nvidia.com/gpu": "500m"}}, "a GPU is not divided"),
        ({"gpu": "none"}, "limits have nvidia.com/gpu"),
        ({"limits": {"memory": "8Gi"}}, "limits lack nvidia.com/gpu"),
        ({"capacity": "reserved"}, "profiles.mine.capacity"),
        ({"capacity": "on_demand", "fallback": "cpu"}, "only a spot profile has one"),
        ({"pod": "worker"}, "choose pod: own"),
        ({"attempts": 0}, "profiles.mine.attempts"),
        ({"grace_seconds": 0}, "profiles.mine.grace_seconds"),
        ({"node_selector": {"zone": "a b"}}, "profiles.mine.node_selector.zone"),
        ({"nodes": 3}, "profiles.mine.nodes"),
        ({"price": None}, "profiles.mine.price"),
    ],
)
def test_a_wrong_profile_is_refused_with_its_field(change: dict[str, Any], says: str) -> None:
    """Not by the cluster, when the training starts."""
    with pytest.raises(PermanentError, match=r"ours\.yaml: a compute profile is wrong") as caught:
        parse_profiles({"profiles": {"mine": SOUND | change}}, "ours.yaml")
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("fallback", "says"),
    [("gone", "there is no profile 'gone'"), ("spot", "choose one that is on_demand")],
)
def test_a_fallback_has_to_be_an_on_demand_profile(fallback: str, says: str) -> None:
    """Else the last attempt is as uncertain as the others."""
    document = {"profiles": {"mine": SOUND | {"fallback": fallback}, "spot": SOUND}}
    with pytest.raises(PermanentError, match=says):
        check_fallbacks(parse_profiles(document, "ours.yaml"), "ours.yaml")


def test_a_team_adds_its_own_profiles_and_replaces_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a file of its own; the platform's others stay."""
    path = tmp_path / "ours.yaml"
    path.write_text(
        yaml.safe_dump(
            {"profiles": {"mine": SOUND, "cpu_spot": SOUND | {"fallback": "gpu_on_demand"}}}
        )
    )
    monkeypatch.setenv(OWN_FILE_VARIABLE, str(path))
    assert profile_named("mine").gpu == "required"
    assert profile_named("cpu_spot").fallback == "gpu_on_demand"
    assert profile_named("cpu").pod == "worker"


def test_a_team_s_file_that_is_not_there_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the variable that names it."""
    monkeypatch.setenv(OWN_FILE_VARIABLE, str(tmp_path / "gone.yaml"))
    with pytest.raises(PermanentError, match=f"{OWN_FILE_VARIABLE} names .*gone.yaml"):
        profiles()


def test_only_what_trains_for_long_leaves_the_run_worker_by_default() -> None:
    """And what a use case names, it gets."""
    spec = spec_with()
    assert profile_name(spec, "model") == "gpu_spot"
    assert profile_name(spec, "backtest") == "cpu_spot"
    assert profile_name(spec, "visits") == profile_name(spec, "endpoint") == "cpu"
    assert profile_name(spec_with(model="gpu_on_demand"), "model") == "gpu_on_demand"


@pytest.mark.parametrize(
    ("compute", "place", "says"),
    [
        ({"modle": "cpu"}, "compute.modle", "there is no asset 'modle' that runs; known: visits"),
        ({"retraining": "cpu"}, "compute.retraining", "no asset 'retraining' that runs"),
        ({"model": "tpu"}, "compute.model", "no compute profile 'tpu'; known: cpu, "),
        ({"endpoint": "gpu_spot"}, "compute.endpoint", "may not deploy an endpoint; choose one"),
        ({"promotion": "cpu_spot"}, "compute.promotion", "may not write the ledger; choose one"),
    ],
)
def test_an_asset_or_profile_that_there_is_not_is_found_at_load(
    compute: dict[str, str], place: str, says: str
) -> None:
    """With its place in defs.yaml."""
    [problem] = compute_problems(spec_with(**compute), profiles())
    assert ".".join(map(str, problem.path)) == place
    assert says in problem.message


def test_a_step_inside_the_run_worker_says_nothing_about_pods() -> None:
    """Only its profile's name, and that one of its kind runs at a time."""
    assert op_tags("cpu", profile_named("cpu")) == {PROFILE_TAG: "cpu", PLACE_TAG: "worker"}


def test_what_fits_the_run_worker_alone_is_replaced_whole() -> None:
    """A deep merge would leave a run worker's node label on the training's pod."""
    config = pod_config(profile_named("gpu_spot"))
    assert config["merge_behavior"] == "SHALLOW"
    assert set(config) == {
        *("merge_behavior", "container_config", "pod_spec_config", "job_spec_config")
    }


@given(st.integers(1, 10**6), st.sampled_from(["m", "k", "Ki", "M", "Mi", "G", "Gi", "T", "Ti"]))
def test_quantities_grow_with_their_number_and_add_up(number: int, unit: str) -> None:
    """1000m is 1, 1024Mi is 1Gi."""
    assert amount(f"{number + 1}{unit}") > amount(f"{number}{unit}")
    assert amount(f"{1000 * number}m") == pytest.approx(amount(str(number)))
    assert amount(f"{1024 * number}Mi") == amount(f"{number}Gi")
