"""Loading definitions stays cheap: every run pays for it again."""

import subprocess
import sys

HEAVY = (
    "mlflow",
    "dagster_mlflow",
    "evidently",
    "great_expectations",
    "xgboost",
    "sklearn",
    "deltalake",
    "kubernetes",
    "boto3",
    "pandas",
    "polars",
    "pyarrow",
    "matplotlib",
    "numpy",
)


def _modules_after(statement: str) -> set[str]:
    code = f"{statement}\nimport sys\nprint('\\n'.join(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    )
    return set(done.stdout.split())


def test_loading_all_definitions_imports_no_heavy_library() -> None:
    """A library that slips to module level is paid for by every run and every sensor tick."""
    before = _modules_after("import dagster")
    loaded = _modules_after("from mlops_assets.definitions import defs\ndefs()")
    assert "mlops_assets.lifecycle.use_case" in loaded
    assert sorted(name for name in HEAVY if name in loaded and name not in before) == []


def test_the_model_server_never_imports_dagster() -> None:
    """The server is a small process of its own."""
    loaded = _modules_after("import mlops_assets.serving.__main__")
    assert sorted({"dagster", "mlflow", "pandas"} & loaded) == []
