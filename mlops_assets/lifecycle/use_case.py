"""A use case as one asset graph: stages in the order of the data flow, and their sensors."""

import dagster as dg

from mlops_assets.adapters.functions import Functions
from mlops_assets.core.spec import UseCaseSpec
from mlops_assets.lifecycle.alerting.sensor import alerts_sensor
from mlops_assets.lifecycle.arrivals.sensor import new_data_sensor
from mlops_assets.lifecycle.backtest.asset import backtest_asset
from mlops_assets.lifecycle.datasets import dataset_asset
from mlops_assets.lifecycle.endpoint import endpoint_asset
from mlops_assets.lifecycle.evaluation import evaluation_asset
from mlops_assets.lifecycle.feature_views import feature_view_asset
from mlops_assets.lifecycle.model import model_asset
from mlops_assets.lifecycle.monitoring.drift import drift_asset
from mlops_assets.lifecycle.monitoring.performance import performance_asset
from mlops_assets.lifecycle.online import online_features_asset
from mlops_assets.lifecycle.outcomes import outcomes_asset
from mlops_assets.lifecycle.parity import parity_asset
from mlops_assets.lifecycle.prediction_log import prediction_log_asset
from mlops_assets.lifecycle.predictions import predictions_asset
from mlops_assets.lifecycle.promotion import promotion_asset
from mlops_assets.lifecycle.retraining.sensor import retraining_asset, retraining_sensor
from mlops_assets.lifecycle.rollout.asset import rollout_asset
from mlops_assets.lifecycle.rollout.paired import rollout_evidence_asset
from mlops_assets.lifecycle.rollout.sensor import rollout_sensor
from mlops_assets.lifecycle.training_set import training_set_asset
from mlops_assets.lifecycle.tuning import tuning_asset


def use_case_definitions(spec: UseCaseSpec, functions: Functions) -> dg.Definitions:
    """The assets, checks and sensors of ``spec``; needs the resources of ``resources_at``."""
    guarded = spec.rollout.strategy == "guarded"
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
            prediction_log_asset(spec),
            outcomes_asset(spec, functions),
            drift_asset(spec),
            performance_asset(spec),
            retraining_asset(spec),
            backtest_asset(spec, functions),
            *([tuning_asset(spec)] if spec.tuning is not None else []),
            *(
                [online_features_asset(spec, functions), parity_asset(spec, functions)]
                if spec.online is not None
                else []
            ),
            *([rollout_evidence_asset(spec), rollout_asset(spec)] if guarded else []),
        ],
        sensors=[
            new_data_sensor(spec, functions),
            retraining_sensor(spec),
            alerts_sensor(spec),
            *([rollout_sensor(spec)] if guarded else []),
        ],
    )
