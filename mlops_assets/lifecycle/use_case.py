"""A use case as one asset graph: the stages in the order of the data flow."""

import dagster as dg

from mlops_assets.adapters.functions import Functions
from mlops_assets.core.spec import UseCaseSpec
from mlops_assets.lifecycle.datasets import dataset_asset
from mlops_assets.lifecycle.endpoint import endpoint_asset
from mlops_assets.lifecycle.evaluation import evaluation_asset
from mlops_assets.lifecycle.feature_views import feature_view_asset
from mlops_assets.lifecycle.model import model_asset
from mlops_assets.lifecycle.predictions import predictions_asset
from mlops_assets.lifecycle.promotion import promotion_asset
from mlops_assets.lifecycle.training_set import training_set_asset


def use_case_definitions(spec: UseCaseSpec, functions: Functions) -> dg.Definitions:
    """The assets and checks of ``spec``; needs the resources of ``platform_resources``."""
    return dg.Definitions(
        assets=[
            *(dataset_asset(spec, functions, name) for name in spec.datasets),
            *(feature_view_asset(spec, functions, name) for name in spec.feature_views),
            training_set_asset(spec, functions),
            model_asset(spec),
            evaluation_asset(spec),
            promotion_asset(spec),
            endpoint_asset(spec),
            predictions_asset(spec, functions),
        ]
    )
