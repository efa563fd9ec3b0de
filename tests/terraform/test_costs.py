"""terraform/COSTS.md and how it comes about."""

import dataclasses
import gzip
import json
import shutil
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from mlops_assets.core.errors import PermanentError
from terraform.costs import __main__ as command
from terraform.costs.bill import Bill, bill, node_seconds, node_share, nodes_for
from terraform.costs.configuration import CLASSES, Requests, environment, platform
from terraform.costs.prices import (
    FOLDER,
    PATTERN,
    PRICES,
    Pattern,
    Prices,
    read_pattern,
    read_prices,
)
from terraform.costs.report import report

SHARED = FOLDER.parents[1] / "shared" / "prices" / "ec2-us-east-1-ondemand.json.gz"
ENVIRONMENTS = sorted(path.name for path in (FOLDER / "environments").iterdir() if path.is_dir())


@pytest.fixture(scope="module")
def prices() -> Prices:
    """The price table."""
    return read_prices()


@pytest.fixture(scope="module")
def pattern() -> Pattern:
    """The working pattern."""
    return read_pattern()


@pytest.fixture(scope="module")
def bills(prices: Prices, pattern: Pattern) -> dict[str, Bill]:
    """The bills of all environments."""
    shared = platform()
    return {name: bill(environment(name), shared, prices, pattern) for name in ENVIRONMENTS}


def changed(tmp_path: Path, old: str, new: str, name: str = "production") -> Path:
    """A copy of terraform/ whose terraform.tfvars of ``name`` has ``new`` for ``old``."""
    copy = tmp_path / "terraform"
    shutil.copytree(FOLDER, copy, ignore=shutil.ignore_patterns(".terraform"))
    path = copy / "environments" / name / "terraform.tfvars"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    return copy


def test_costs_md_says_what_the_configuration_costs() -> None:
    """A change of the configuration that changes the bill shows in the same commit."""
    message = "run python -m terraform.costs and commit terraform/COSTS.md"
    assert command.COSTS.read_text() == command.text(), message


def test_every_environment_has_a_bill(pattern: Pattern) -> None:
    """The working pattern has the environments that Terraform has, and their use cases."""
    assert sorted(pattern.environments) == ENVIRONMENTS
    names = {each.name for each in platform().use_cases}
    assert all(set(month.use_cases) == names for month in pattern.environments.values())


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_work_costs_more_than_none_and_on_demand_more_than_spot(
    bills: dict[str, Bill], name: str
) -> None:
    """The three columns are in order, line by line and in sum."""
    for line in bills[name].lines:
        if line.idle is not None and line.spot is not None and line.on_demand is not None:
            assert 0 <= line.idle <= line.spot <= line.on_demand, line.what
    sums = [bills[name].total(column) for column in ("idle", "spot", "on_demand")]
    assert sums == sorted(set(sums)), "trainings cost something, and less on spot"


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_the_budget_has_room_for_the_work(bills: dict[str, Bill], name: str) -> None:
    """A budget below the bill alarms from the first month on, and is soon ignored."""
    working = bills[name].total("on_demand")
    assert working < bills[name].environment.budget < 4 * working


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_use_cases_take_no_more_than_there_is(bills: dict[str, Bill], name: str) -> None:
    """What the use cases have of the bill is a part of it."""
    own = [line for lines in bills[name].use_cases.values() for line in lines]
    for column in ("idle", "spot", "on_demand"):
        assert sum(getattr(line, column) for line in own) < bills[name].total(column)


def test_a_price_is_the_same_wherever_it_stands(prices: Prices) -> None:
    """The retraining policy's price table and this one agree on each instance."""
    classes = yaml.safe_load(CLASSES.read_text())["classes"]
    for each in classes.values():
        assert prices.instance_hour(each["instance"]) == each["on_demand_per_hour"]


@pytest.mark.skipif(
    not SHARED.is_file(),
    reason=f"PRICES ARE NOT COMPARED: put the table that prices.yaml is from at {SHARED}",
)
def test_instance_prices_are_the_sources(prices: Prices) -> None:
    """Each EC2 price is that of the table it is said to be from, and so is the commit."""
    table = json.loads(gzip.decompress(SHARED.read_bytes()))
    listed = table["prices"][prices.region]
    assert prices.instances.per_hour == {each: listed[each] for each in prices.instances.per_hour}
    assert table["commit"] in prices.sources[prices.instances.source].what


def test_a_gateway_in_each_zone_costs_more_than_one(
    tmp_path: Path, prices: Prices, pattern: Pattern, bills: dict[str, Bill]
) -> None:
    """The bill follows the values of the environment."""
    copy = changed(tmp_path, '"per_zone"', '"one"')
    cheaper = bill(environment("production", copy), platform(), prices, pattern)
    zones = bills["production"].environment.zones
    each = (prices.service("nat_hour") + prices.service("ipv4_hour")) * prices.hours_per_month
    saved = bills["production"].total("idle") - cheaper.total("idle")
    assert saved == pytest.approx((zones - 1) * each)


def test_what_has_no_price_is_said_and_is_not_in_the_sum(
    tmp_path: Path, prices: Prices, pattern: Pattern, bills: dict[str, Bill]
) -> None:
    """A database class without a source leaves a hole that shows, and no invented number."""
    was = bills["production"].environment.database_class
    copy = changed(tmp_path, f'"{was}"', '"db.x99.large"')
    shared = platform()
    unpriced = bill(environment("production", copy), shared, prices, pattern)
    (line,) = [each for each in unpriced.lines if each.idle is None]
    assert "db.x99.large" in line.basis
    text = report([unpriced], shared, prices, pattern)
    assert "| not priced | not priced | not priced |" in text
    assert f"| production | at least {unpriced.total('idle'):,.2f} |" in text


def test_an_instance_without_a_price_is_refused(
    tmp_path: Path, prices: Prices, pattern: Pattern
) -> None:
    """Nodes are most of the bill: without their price there is none."""
    copy = changed(tmp_path, '["m6i.large", "m6a.large"]', '["m9z.large"]')
    with pytest.raises(PermanentError, match=r"no price for the instance type m9z\.large: add it"):
        bill(environment("production", copy), platform(), prices, pattern)


def test_a_value_that_costs_must_be_there(tmp_path: Path) -> None:
    """A value that is missing is named, with its file."""
    copy = changed(tmp_path, "monthly_usd", "monthly_eur")
    with pytest.raises(PermanentError, match=r"terraform\.tfvars: budget\.monthly_usd is missing"):
        environment("production", copy)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"multi_az": {"factor": 0.5, "source": "rds-guide"}}, "multi_az.factor"),
        ({"multi_az": {"factor": 2, "source": "hearsay"}}, "source 'hearsay'"),
        ({"services": {"key": {"price": -1, "source": "ipv4"}}}, "services.key.price"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_a_wrong_price_table_is_refused(
    tmp_path: Path, change: dict[str, object], message: str
) -> None:
    """A price has a source, and is one."""
    path = tmp_path / "prices.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(PRICES.read_text()) | change))
    with pytest.raises(PermanentError, match=message):
        read_prices(path)


def test_more_when_idle_than_at_work_is_refused(tmp_path: Path) -> None:
    """The two columns cannot be swapped unnoticed."""
    document = yaml.safe_load(PATTERN.read_text())
    document["environments"]["staging"]["nat_gb"] = {"idle": 2, "working": 1}
    path = tmp_path / "pattern.yaml"
    path.write_text(yaml.safe_dump(document))
    with pytest.raises(PermanentError, match="idle is 2, above working 1"):
        read_pattern(path)


def test_a_training_is_billed_from_the_nodes_start_to_its_end(pattern: Pattern) -> None:
    """Starting and going take time that is paid for."""
    shared = platform()
    for capacity in ("spot", "on_demand"):
        assert node_seconds(shared, pattern, capacity) == (
            pattern.node_start_seconds + shared.expected_seconds + 120
        )
    twice = dataclasses.replace(shared, expected_seconds=2 * shared.expected_seconds)
    assert node_seconds(twice, pattern, "spot") - node_seconds(shared, pattern, "spot") == (
        shared.expected_seconds
    )


@given(cpu=st.floats(0, 100), gib=st.floats(0, 400), room=st.floats(0.5, 1))
def test_nodes_hold_what_pods_ask_for(cpu: float, gib: float, room: float) -> None:
    """There are enough nodes, and not one too many."""
    requests = Requests(cpu, gib * 2**30)
    nodes = nodes_for(requests, "m6i.xlarge", room)
    share = node_share(requests, "m6i.xlarge", room)
    assert share <= nodes
    assert nodes - 1 < max(share, 1e-9)


def test_the_command_writes_and_checks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """``--check`` says that the file is stale, writing makes it current."""
    path = tmp_path / "COSTS.md"
    assert command.main(["--check"], path) == 1
    assert "not current: run python -m terraform.costs" in capsys.readouterr().err
    assert command.main([], path) == 0
    assert command.main(["--check"], path) == 0
    path.write_text(path.read_text() + "more")
    assert command.main(["--check"], path) == 1
