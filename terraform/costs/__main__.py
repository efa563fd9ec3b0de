"""The command; see the package."""

import argparse
import sys
from pathlib import Path

from mlops_assets.core.errors import PermanentError
from terraform.costs.bill import bill
from terraform.costs.configuration import environment, platform
from terraform.costs.prices import FOLDER, read_pattern, read_prices
from terraform.costs.report import report

COSTS = FOLDER / "COSTS.md"


def text() -> str:
    """What COSTS.md has to say. Raises PermanentError where the configuration lacks something."""
    prices, pattern, shared = read_prices(), read_pattern(), platform()
    bills = [
        bill(environment(name), shared, prices, pattern) for name in sorted(pattern.environments)
    ]
    return report(bills, shared, prices, pattern)


def main(arguments: list[str], path: Path = COSTS) -> int:
    """Writes ``path``; with ``--check`` only says whether it is current: 0, else 1."""
    parser = argparse.ArgumentParser(prog="python -m terraform.costs", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 when stale")
    try:
        current = text()
    except PermanentError as error:
        print(error, file=sys.stderr)
        return 1
    if not parser.parse_args(arguments).check:
        path.write_text(current)
        return 0
    if path.is_file() and path.read_text() == current:
        return 0
    print(f"{path} is not current: run python -m terraform.costs", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
