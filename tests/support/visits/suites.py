"""What the tests' use case expects of its data."""

from mlops_assets.core.quality import QUARANTINE, Suite


def visits() -> Suite:
    """Unique visits, sane minutes, known shops; a day has its usual number of rows."""
    import great_expectations.expectations as gxe

    return Suite(
        rows=[
            gxe.ExpectColumnValuesToBeUnique(column="visit_id", severity="critical"),
            gxe.ExpectColumnValuesToNotBeNull(column="shop", severity="critical"),
            gxe.ExpectColumnValuesToBeBetween(
                column="minutes", min_value=0, severity="critical", meta=QUARANTINE
            ),
            gxe.ExpectColumnValuesToBeInSet(
                column="shop", value_set=["north", "south", "east", "west"], severity="warning"
            ),
        ],
        partitions=[
            gxe.ExpectColumnValuesToBeBetween(
                column="rows_ratio", min_value=0.5, max_value=2, severity="critical"
            ),
        ],
    )
