"""COSTS.md: the bills as a person reads them."""

from collections.abc import Iterator, Sequence

from terraform.costs.bill import Bill, Line, node_seconds
from terraform.costs.configuration import Platform
from terraform.costs.prices import Pattern, Prices

_COLUMNS = ("idle", "spot", "on_demand")
_HEAD = "| | | idle | working, trainings on spot | working, trainings on demand |"
_RULE = "|---|---|---:|---:|---:|"


def report(bills: Sequence[Bill], platform: Platform, prices: Prices, pattern: Pattern) -> str:
    """The text of COSTS.md."""
    parts = [_introduction(bills, prices), *(_environment(each) for each in bills)]
    parts += [_assumptions(platform, prices, pattern), _sources(prices)]
    return "\n\n".join(parts) + "\n"


def _introduction(bills: Sequence[Bill], prices: Prices) -> str:
    lines = [
        "# Costs",
        "",
        f"{prices.currency} a month in {prices.region}, of what `terraform/` makes and "
        "`deployments/` runs on it. Written by",
        "`python -m terraform.costs` from the configuration, the price table "
        "([prices.yaml](prices.yaml), each with source and date)",
        "and the working pattern ([working-pattern.yaml](working-pattern.yaml), assumptions);",
        "a test keeps it current. An estimate: Cost Explorer, by the tags `environment`, `team` "
        "and `use_case`, has the truth.",
        "",
        "| environment | idle | working, trainings on spot | working, trainings on demand | budget "
        "(alarm) |",
        "|---|---:|---:|---:|---:|",
    ]
    for each in bills:
        at_least = "at least " if _unpriced(each.lines) else ""
        totals = " | ".join(f"{at_least}{_usd(each.total(column))}" for column in _COLUMNS)
        budget = _usd(each.environment.budget)
        lines.append(f"| {each.environment.name} | {totals} | {budget} |")
    return "\n".join(lines)


def _environment(bill: Bill) -> str:
    lines = [f"## {bill.environment.name.capitalize()}", "", _HEAD, _RULE]
    lines += _rows(bill.lines)
    lines.append(
        "| **sum** | | " + " | ".join(f"**{_usd(bill.total(each))}**" for each in _COLUMNS) + " |"
    )
    for name, own in bill.use_cases.items():
        lines += [
            "",
            f"### Of that, `{name}`",
            "",
            "Its part of the nodes that it shares, and what is its own.",
            "",
            _HEAD,
            _RULE,
            *_rows(own),
        ]
        sums = (sum(getattr(line, column) or 0 for line in own) for column in _COLUMNS)
        lines.append("| **sum** | | " + " | ".join(f"**{_usd(each)}**" for each in sums) + " |")
    return "\n".join(lines)


def _rows(lines: Sequence[Line]) -> Iterator[str]:
    for line in lines:
        amounts = " | ".join(_usd(getattr(line, column)) for column in _COLUMNS)
        yield f"| {line.what} | {line.basis} | {amounts} |"


def _assumptions(platform: Platform, prices: Prices, pattern: Pattern) -> str:
    spot, other = (node_seconds(platform, pattern, each) for each in ("spot", "on_demand"))
    return "\n".join(
        [
            "## What is assumed",
            "",
            f"- A month has {prices.hours_per_month:g} hours. Idle: everything is up, nobody asks, "
            "nothing is trained.",
            f"- **Spot takes {platform.spot_discount:.0%} off** the on-demand price "
            "(`spot_discount` in mlops_assets/prices.yaml): an",
            "  assumption, the price changes by the hour and zone.",
            f"- A training takes {platform.expected_seconds:g} s (`expected_seconds`, as the "
            "retraining policy's budget has it); its node is billed for",
            f"  {spot:g} s on spot and {other:g} s on demand: until it is there "
            f"({pattern.node_start_seconds:g} s), the training, until Karpenter takes it down.",
            f"- Pods get {pattern.room:.0%} of a node. Nodes of Karpenter are counted by what pods "
            "request, at the price of the type in",
            "  mlops_assets/prices.yaml; Karpenter may take a cheaper one.",
            "- The system group has its fewest nodes, of the first instance type.",
            "- Keys and alarms are counted as the modules write them: a block with `for_each` "
            "counts once.",
            "- Storage and requests are as the working pattern says, at S3's standard price.",
        ]
    )


def _sources(prices: Prices) -> str:
    lines = ["## Where prices are from", "", "| price | of | source |", "|---|---:|---|"]
    for name, price in prices.services.items():
        where = f"{price.source}, {price.test}" if price.test else price.source
        lines.append(f"| {name.replace('_', ' ')} | {price.price:g} per {price.unit} | {where} |")
    for name, price in prices.databases.items():
        where = f"{price.source}, {price.test}" if price.test else price.source
        lines.append(f"| PostgreSQL on {name}, one zone | {price.price:g} per hour | {where} |")
    factor = prices.multi_az
    lines.append(f"| in two zones | {factor.factor:g} times | {factor.source} |")
    lines.append(f"| EC2 instances | as in prices.yaml | {prices.instances.source} |")
    lines += [
        "",
        *(
            f"- {name}: {each.what} ({each.date}, {each.licence})."
            for name, each in prices.sources.items()
        ),
    ]
    lines += ["", "Not priced, and not in the sums:", ""]
    lines += [f"- {each}" for each in prices.not_priced]
    return "\n".join(lines)


def _unpriced(lines: Sequence[Line]) -> bool:
    return any(line.idle is None for line in lines)


def _usd(amount: float | None) -> str:
    return "not priced" if amount is None else f"{amount:,.2f}"
