"""The asset graph of the flight-delay use case: a change of the lineage shows in the diff."""

import difflib
import json
import os
from pathlib import Path

import dagster as dg
import pytest

from mlops_assets.definitions import defs

GOLDEN = Path(__file__).parent / "flight_delays.json"
REWRITE = "REWRITE_GOLDEN"
"""Set to 1, the environment variable makes the test write what it finds."""


def _graph() -> dict[str, dict[str, object]]:
    graph = defs().resolve_asset_graph()
    described: dict[str, dict[str, object]] = {}
    for key in sorted(graph.get_all_asset_keys()):
        node = graph.get(key)
        spec = node.assets_def.get_asset_spec(key)
        partitions = spec.partitions_def
        described[key.to_user_string()] = {
            "parents": sorted(parent.to_user_string() for parent in node.parent_keys),
            "kinds": sorted(spec.kinds),
            "group": spec.group_name,
            "owners": list(spec.owners),
            "partitions": None
            if not isinstance(partitions, dg.DailyPartitionsDefinition)
            else f"daily, {partitions.timezone}, {partitions.get_first_partition_key()} to "
            f"{partitions.get_last_partition_key()}",
            "checks": sorted(
                check.name + (" (blocking)" if check.blocking else "")
                for check in node.assets_def.check_specs
            ),
        }
    return described


def test_the_graph_is_the_one_that_was_agreed_on() -> None:
    """Lineage, owners, partitions and checks change on purpose or not at all."""
    found = json.dumps(_graph(), indent=1) + "\n"
    if os.environ.get(REWRITE) == "1":
        GOLDEN.write_text(found)
        # What is compared with itself proves nothing, so it does not pass.
        pytest.skip(f"{GOLDEN.name} was rewritten: look at its diff and commit it")
    agreed = GOLDEN.read_text() if GOLDEN.exists() else ""
    diff = "".join(
        difflib.unified_diff(
            agreed.splitlines(keepends=True),
            found.splitlines(keepends=True),
            f"{GOLDEN.name} as agreed",
            "the graph as it is",
        )
    )
    if diff:
        pytest.fail(
            f"the asset graph changed:\n{diff}\nWhen it should have, run this test with "
            f"{REWRITE}=1 and commit {GOLDEN.name}",
            pytrace=False,
        )
