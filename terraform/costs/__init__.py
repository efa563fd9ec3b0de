"""What an environment of terraform/ costs: COSTS.md, from its configuration and a price table.

python -m terraform.costs           # writes terraform/COSTS.md
python -m terraform.costs --check   # exits 1 where it is not current
"""
