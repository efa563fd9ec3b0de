"""Each module by itself: its files, its README, what it holds and what it refuses."""

import importlib.machinery
import importlib.util
import re

import pytest
from terraform_support import (
    MODULES,
    ROOTS,
    TERRAFORM,
    init,
    labelled,
    needs_terraform,
    parsed,
    terraform,
)

FILES = {"main.tf", "variables.tf", "outputs.tf", "versions.tf", "README.md"}
PROVIDER = {"source": "hashicorp/aws", "version": "~> 5.100"}


@pytest.fixture(scope="module")
def docs():
    """The program terraform/docs, as a module."""
    loader = importlib.machinery.SourceFileLoader("terraform_docs", str(TERRAFORM / "docs"))
    spec = importlib.util.spec_from_loader("terraform_docs", loader)
    assert spec
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


# -- by reading -----------------------------------------------------------------------------------


@pytest.mark.parametrize("module", MODULES)
def test_a_module_has_the_files_that_all_have(module):
    """Whoever knows one module finds their way in the others."""
    folder = TERRAFORM / module
    assert {path.name for path in folder.iterdir()} >= FILES
    assert list(folder.glob("tests/*.tftest.hcl"))


@pytest.mark.parametrize("folder", [*MODULES, *ROOTS])
def test_only_the_aws_provider_is_needed(folder):
    """One provider, one range of versions, one oldest Terraform."""
    (settings,) = (each for each in parsed(folder)["terraform"] if "required_providers" in each)
    assert settings["required_version"] == ">= 1.11"
    (providers,) = settings["required_providers"]
    assert set(providers) == {"aws"}
    needed = {name: value for name, value in providers["aws"].items() if name in PROVIDER}
    assert needed == PROVIDER


@pytest.mark.parametrize("folder", [*MODULES, *ROOTS])
def test_variables_and_outputs_say_what_they_are(folder):
    """Each has a description, each variable a type."""
    for name, attributes in labelled(folder, "variable").items():
        assert attributes.get("description"), f"{folder}: variable {name}"
        assert "type" in attributes, f"{folder}: variable {name}"
    for name, attributes in labelled(folder, "output").items():
        assert attributes.get("description"), f"{folder}: output {name}"


@pytest.mark.parametrize("module", MODULES)
def test_a_module_is_seen_to_refuse(module):
    """A validation that no test meets may be one that never holds."""
    tests = "".join(path.read_text() for path in (TERRAFORM / module).glob("tests/*.tftest.hcl"))
    met = set(
        re.findall(
            r"var\.(\w+)", "".join(re.findall(r"expect_failures\s*=\s*\[.*?\]", tests, re.S))
        )
    )
    checked = {
        name
        for name, attributes in labelled(module, "variable").items()
        if "validation" in attributes
    }
    assert checked - met == set()


def test_tables_of_inputs_and_outputs_are_current(docs):
    """`terraform/docs` writes them."""
    stale = [
        folder.name
        for folder in docs.folders()
        if docs.readme(folder) != (folder / "README.md").read_text()
    ]
    assert stale == [], "run .venv/bin/python terraform/docs"


def test_a_table_has_types_defaults_and_descriptions(docs, tmp_path):
    """What it makes of a small module, literally."""
    (tmp_path / "variables.tf").write_text(
        'variable "zones" {\n  description = "Two | more."\n  type = list(string)\n}\n'
        'variable "nat" {\n  description = <<-TEXT\n    One,\n    or more.\n  TEXT\n'
        '  type = object({\n    one = bool\n    of  = optional(string, "all")\n  })\n'
        "  default = { one = true }\n}\n"
    )
    (tmp_path / "outputs.tf").write_text(
        'output "id" {\n  description = "Its id."\n  value = var.nat\n}\n'
    )
    readme = tmp_path / "README.md"
    readme.write_text("# x\n\n<!-- inputs and outputs -->\nold\n<!-- end -->\nafter\n")
    assert docs.readme(tmp_path).splitlines() == [
        "# x",
        "",
        "<!-- inputs and outputs -->",
        "| input | type | default | |",
        "|---|---|---|---|",
        "| `zones` | `list(string)` |  | Two \\| more. |",
        '| `nat` | `object({one = bool, of = optional(string, "all")})` '
        '| `{"one": true}` | One, or more. |',
        "",
        "| output | |",
        "|---|---|",
        "| `id` | Its id. |",
        "<!-- end -->",
        "after",
    ]


def test_a_readme_without_the_markers_is_named(docs, tmp_path):
    """Nothing is written where nobody said where."""
    (tmp_path / "README.md").write_text("# x\n")
    with pytest.raises(ValueError, match=r"README\.md: write the lines"):
        docs.readme(tmp_path)


# -- with terraform -------------------------------------------------------------------------------


@pytest.mark.terraform
@needs_terraform
def test_files_are_formatted(terraform_copy):
    """As `terraform fmt` has it."""
    done = terraform("fmt", "-check", "-recursive", "-diff", folder=terraform_copy, check=False)
    assert done.code == 0, f"run terraform fmt -recursive terraform\n{done.output}{done.errors}"


@pytest.mark.terraform
@needs_terraform
@pytest.mark.parametrize("root", ROOTS)
def test_a_root_is_valid(terraform_copy, root):
    """By the provider's own schemas, without a warning."""
    init(terraform_copy / root)
    done = terraform("validate", "-no-color", folder=terraform_copy / root)
    assert "Warning" not in done.output, done.output


@pytest.mark.terraform
@needs_terraform
@pytest.mark.parametrize("module", [*MODULES, "bootstrap"])
def test_a_module_holds_what_it_has_to(terraform_copy, module):
    """Its own tests, with a provider that answers without AWS."""
    init(terraform_copy / module)
    done = terraform("test", "-no-color", folder=terraform_copy / module)
    passed = re.search(r"(\d+) passed, 0 failed", done.output)
    assert passed and int(passed[1]) > 0, done.output
