"""Who has to be allowed what, and who must be refused what, with the names that the code gives."""

from mlops_assets.adapters import inputs
from mlops_assets.adapters.checkpoints import use_case_url
from mlops_assets.adapters.decisions import table as decisions_table
from mlops_assets.adapters.endpoints.release_store import RELEASE, REPLICAS
from mlops_assets.adapters.endpoints.sagemaker import INSTANCE
from mlops_assets.adapters.endpoints.targets import place_of, prediction_log_of
from mlops_assets.adapters.ledger import table as promotions_table

NAME = "mlops-production"
HERE = "us-east-1:123456789012"

# As deployments/kubernetes/overlays/production/environment.env has them.
LAKE = f"s3://{NAME}-lake"
LEDGER = f"s3://{NAME}-ledger"
MODELS = f"s3://{NAME}-artifacts/models"
REPORTS = f"s3://{NAME}-artifacts/reports"
DOCUMENTS = f"s3://{NAME}-artifacts/documents"
LOGS = f"s3://{NAME}-logs/compute-logs"

PLACE = place_of("visits", "kubernetes://mlops-endpoints", DOCUMENTS)
PREDICTIONS = prediction_log_of("visits", "kubernetes://mlops-endpoints", DOCUMENTS)
THE_RELEASE = f"{PLACE}/{RELEASE}"
REPORT = f"{PLACE}/{REPLICAS}/visits-7d9f-0.json"
SEGMENT = f"{PREDICTIONS}/20261123/20261123T20-visits-7d9f-0.jsonl"
TABLE_FILE = f"{LAKE}/visits/training_sets/_delta_log/00000000000000000007.json"
PROMOTIONS = f"{LEDGER}/{promotions_table('visits')}/_delta_log/00000000000000000007.json"
DECISIONS = f"{LEDGER}/{decisions_table('visits')}/part-0.parquet"
MODEL = f"{MODELS}/visits/{'a' * 64}.ubj"
EXPORT = f"{MODELS}/visits/{'a' * 64}.onnx"
CHECKPOINT = f"{use_case_url(MODELS, 'visits')}/{'b' * 64}/round-000040.checkpoint"
BACKTEST = f"{MODELS}/backtest/visits/model-{'c' * 64}"
MLFLOW = f"{MODELS}/mlflow/visits/run/artifacts/environment.json"
INPUTS = inputs.place(DOCUMENTS, "visits", "model")

ONLINE = f"arn:aws:dynamodb:{HERE}:table/{NAME}-online"
QUEUE = f"arn:aws:sqs:{HERE}:{NAME}-events"
TOPIC = f"arn:aws:sns:{HERE}:{NAME}-alerts"
MASTER = f"arn:aws:secretsmanager:{HERE}:secret:rds!db-0000-AbCdEf"
KEY = "arn:aws:kms:us-east-1:123456789012:key"
STATE = f"s3://{NAME}-terraform/{NAME}/terraform.tfstate"
ACCOUNT = "arn:aws:iam::123456789012"
SAGEMAKER = f"arn:aws:sagemaker:{HERE}"
AN_ENDPOINT = f"{SAGEMAKER}:endpoint/visits"
A_CONFIGURATION = f"{SAGEMAKER}:endpoint-config/visits-0a1b2c3d4e5f"
A_MODEL = f"{SAGEMAKER}:model/visits-0a1b2c3d4e5f"


def secret(name: str) -> str:
    """ARN of a secret of the platform."""
    return f"arn:aws:secretsmanager:{HERE}:secret:{name}-AbCdEf"


def repository(name: str) -> str:
    """ARN of a repository of images."""
    return f"arn:aws:ecr:{HERE}:repository/{name}"


def log_of(group: str) -> str:
    """ARN of a stream of a group of logs."""
    return f"arn:aws:logs:{HERE}:log-group:{group}:log-stream:servers"


def arn(place: str) -> str:
    """The ARN of what is at ``s3://…``, or the ARN itself."""
    return place.replace("s3://", "arn:aws:s3:::")


Case = tuple[str, str, str] | tuple[str, str, str, dict[str, str]]

THROUGH_S3 = {"kms:ViaService": "s3.us-east-1.amazonaws.com"}
THROUGH_DYNAMODB = {"kms:ViaService": "dynamodb.us-east-1.amazonaws.com"}
THROUGH_SECRETS = {"kms:ViaService": "secretsmanager.us-east-1.amazonaws.com"}
BOUNDED = {"iam:PermissionsBoundary": f"{ACCOUNT}:policy/mlops/{NAME}-workloads"}
UNBOUNDED: dict[str, str] = {}
MADE_TAGGED = {"aws:RequestTag/mlops/use_case": "visits"}
TAGGED = {"aws:ResourceTag/mlops/use_case": "visits"}
TO_SAGEMAKER = {"iam:PassedToService": "sagemaker.amazonaws.com"}
METRICS = "/aws/sagemaker/Endpoints"


def on(*types: str) -> dict[str, str]:
    """A request with instances of these types."""
    return MADE_TAGGED | {"sagemaker:InstanceTypes": ",".join(types)}


NEEDED: list[Case] = [
    # Sensors decide, move the release, remember alerts, and tell people.
    ("dagster", "s3:GetObject", TABLE_FILE),
    ("dagster", "s3:ListBucket", LAKE),
    ("dagster", "s3:ListBucket", f"s3://{NAME}-artifacts"),
    ("dagster", "s3:PutObject", PROMOTIONS),
    ("dagster", "s3:PutObject", DECISIONS),
    ("dagster", "s3:PutObject", f"{LAKE}/visits/alerts/_delta_log/00000000000000000001.json"),
    ("dagster", "s3:PutObject", f"{LAKE}/visits/alert_deliveries/part-0.parquet"),
    ("dagster", "s3:GetObject", THE_RELEASE),
    ("dagster", "s3:PutObject", THE_RELEASE),
    ("dagster", "s3:GetObject", REPORT),
    ("dagster", "s3:PutObject", f"{DOCUMENTS}/visits/promotion.json"),
    ("dagster", "s3:PutObject", f"{DOCUMENTS}/visits/endpoint.json"),
    ("dagster", "s3:PutObject", f"{DOCUMENTS}/visits/alerting.json"),
    ("dagster", "s3:GetObject", INPUTS),
    ("dagster", "s3:GetObject", f"{LOGS}/storage/run/compute_logs/step.err"),
    ("dagster", "s3:ListBucket", f"s3://{NAME}-logs", {"s3:prefix": "compute-logs/storage/run"}),
    ("dagster", "kms:Decrypt", f"{KEY}/lake", THROUGH_S3),
    ("dagster", "sqs:ReceiveMessage", QUEUE),
    ("dagster", "sqs:DeleteMessage", QUEUE),
    ("dagster", "sns:Publish", TOPIC),
    (
        "dagster",
        "kms:GenerateDataKey",
        f"{KEY}/alerts",
        {"kms:ViaService": "sns.us-east-1.amazonaws.com"},
    ),
    ("dagster", "sagemaker:DescribeEndpoint", AN_ENDPOINT),
    # Runs write tables, documents and decisions, and deploy.
    ("run", "s3:PutObject", TABLE_FILE),
    ("run", "s3:AbortMultipartUpload", TABLE_FILE),
    ("run", "s3:PutObject", PROMOTIONS),
    ("run", "s3:PutObject", INPUTS),
    ("run", "s3:PutObject", MODEL),
    ("run", "s3:GetObject", EXPORT),
    ("run", "s3:PutObject", MLFLOW),
    ("run", "s3:PutObject", f"{REPORTS}/visits/drift/2013-03-01.html"),
    ("run", "s3:PutObject", THE_RELEASE),
    ("run", "s3:DeleteObject", THE_RELEASE),
    ("run", "s3:PutObject", f"{PLACE}/online.json"),
    ("run", "s3:DeleteObject", REPORT),
    ("run", "s3:GetObject", SEGMENT),
    ("run", "s3:PutObject", f"{LOGS}/storage/run/compute_logs/step.err"),
    ("run", "s3:GetObject", "s3://example-source/visits/2013-03-01.parquet"),
    ("run", "dynamodb:PutItem", ONLINE),
    ("run", "dynamodb:BatchWriteItem", ONLINE),
    ("run", "dynamodb:Query", ONLINE),
    ("run", "sagemaker:DescribeModel", A_MODEL),
    ("run", "sagemaker:CreateModel", A_MODEL, MADE_TAGGED),
    ("run", "sagemaker:AddTags", A_MODEL, {"sagemaker:TaggingAction": "CreateModel"}),
    ("run", "sagemaker:CreateEndpointConfig", A_CONFIGURATION, on(INSTANCE)),
    ("run", "sagemaker:CreateEndpoint", AN_ENDPOINT, MADE_TAGGED),
    ("run", "sagemaker:CreateEndpoint", A_CONFIGURATION, MADE_TAGGED | TAGGED),
    ("run", "sagemaker:UpdateEndpoint", AN_ENDPOINT, TAGGED),
    ("run", "sagemaker:UpdateEndpoint", A_CONFIGURATION, TAGGED),
    ("run", "sagemaker:UpdateEndpointWeightsAndCapacities", AN_ENDPOINT, TAGGED),
    ("run", "sagemaker:DeleteEndpointConfig", A_CONFIGURATION, TAGGED),
    ("run", "sagemaker:DeleteModel", A_MODEL, TAGGED),
    ("run", "iam:PassRole", f"{ACCOUNT}:role/mlops/{NAME}-sagemaker", TO_SAGEMAKER),
    # Steps read rows, keep checkpoints, and leave a model.
    ("step", "s3:GetObject", TABLE_FILE),
    ("step", "s3:PutObject", f"{LAKE}/visits/profile/part-0.parquet"),
    ("step", "s3:GetObject", f"{DOCUMENTS}/visits/training_set.json"),
    ("step", "s3:PutObject", f"{DOCUMENTS}/visits/model.json"),
    ("step", "s3:PutObject", CHECKPOINT),
    ("step", "s3:GetObject", CHECKPOINT),
    ("step", "s3:DeleteObject", CHECKPOINT),
    ("step", "s3:PutObject", MODEL),
    ("step", "s3:PutObject", MLFLOW),
    ("step", "s3:PutObject", BACKTEST),
    ("step", "s3:PutObject", f"{REPORTS}/visits/backtest/policies.md"),
    # A server follows its release, loads models, reports, and ships its log.
    ("endpoint", "s3:GetObject", THE_RELEASE),
    ("endpoint", "s3:GetObject", f"{PLACE}/online.json"),
    ("endpoint", "s3:GetObject", MODEL),
    ("endpoint", "s3:GetObject", EXPORT),
    ("endpoint", "s3:PutObject", REPORT),
    ("endpoint", "s3:PutObject", SEGMENT),
    ("endpoint", "dynamodb:BatchGetItem", ONLINE),
    (
        "endpoint",
        "kms:Decrypt",
        f"{KEY}/online",
        {"kms:ViaService": "dynamodb.us-east-1.amazonaws.com"},
    ),
    ("sagemaker", "s3:GetObject", THE_RELEASE),
    ("sagemaker", "s3:GetObject", MODEL),
    ("sagemaker", "s3:PutObject", REPORT),
    ("sagemaker", "s3:PutObject", SEGMENT),
    ("sagemaker", "kms:GenerateDataKey", f"{KEY}/lake", THROUGH_S3),
    ("sagemaker", "dynamodb:BatchGetItem", ONLINE),
    ("sagemaker", "ecr:GetAuthorizationToken", "*"),
    ("sagemaker", "ecr:BatchGetImage", repository("mlops-server")),
    ("sagemaker", "logs:PutLogEvents", log_of("/aws/sagemaker/Endpoints/visits")),
    ("sagemaker", "cloudwatch:PutMetricData", "*", {"cloudwatch:namespace": METRICS}),
    ("mlflow", "s3:GetObject", MLFLOW),
    (
        "mlflow",
        "s3:ListBucket",
        f"s3://{NAME}-artifacts",
        {"s3:prefix": "models/mlflow/visits/run/artifacts/"},
    ),
    ("external-secrets", "secretsmanager:GetSecretValue", secret("mlops/environment")),
    ("external-secrets", "kms:Decrypt", f"{KEY}/secrets", THROUGH_SECRETS),
    ("database-bootstrap", "secretsmanager:GetSecretValue", MASTER),
    ("database-bootstrap", "kms:Decrypt", f"{KEY}/database", THROUGH_SECRETS),
    ("database-bootstrap", "secretsmanager:PutSecretValue", secret("mlops/dagster-database")),
    ("database-bootstrap", "secretsmanager:PutSecretValue", secret("mlops/tuning-database")),
    # CI.
    ("ci-plan", "s3:GetObject", STATE),
    ("ci-plan", "kms:Decrypt", f"{KEY}/state", THROUGH_S3),
    ("ci-plan", "s3:GetBucketPolicy", LAKE),
    ("ci-plan", "iam:GetRole", f"{ACCOUNT}:role/mlops/{NAME}-run"),
    ("ci-plan", "ec2:DescribeVpcs", "*"),
    ("ci-apply", "s3:PutObject", STATE),
    ("ci-apply", "s3:PutObject", f"{STATE}.tflock"),
    ("ci-apply", "s3:DeleteObject", f"{STATE}.tflock"),
    ("ci-apply", "s3:PutBucketPolicy", LAKE),
    ("ci-apply", "iam:CreateRole", f"{ACCOUNT}:role/mlops/{NAME}-run", BOUNDED),
    (
        "ci-apply",
        "iam:PutRolePolicy",
        f"{ACCOUNT}:role/{NAME}-cluster",
        {"iam:PermissionsBoundary": f"{ACCOUNT}:policy/mlops-ci/{NAME}-infrastructure"},
    ),
    (
        "ci-apply",
        "iam:AttachRolePolicy",
        f"{ACCOUNT}:role/mlops-node",
        BOUNDED | {"iam:PolicyARN": "arn:aws:iam::aws:policy/AmazonEKSWorkerNodePolicy"},
    ),
    (
        "ci-apply",
        "iam:PassRole",
        f"{ACCOUNT}:role/mlops/{NAME}-run",
        {"iam:PassedToService": "pods.eks.amazonaws.com"},
    ),
    ("ci-apply", "eks:UpdateClusterVersion", f"arn:aws:eks:{HERE}:cluster/{NAME}"),
    (
        "ci-apply",
        "kms:GenerateDataKey",
        f"{KEY}/database",
        THROUGH_SECRETS | {"kms:EncryptionContext:SecretARN": MASTER},
    ),
    (
        "ci-apply",
        "kms:Decrypt",
        f"{KEY}/online",
        THROUGH_DYNAMODB | {"kms:EncryptionContext:aws:dynamodb:tableName": f"{NAME}-online"},
    ),
    ("ci-push", "ecr:PutImage", repository("mlops-server")),
    ("ci-push", "ecr:GetAuthorizationToken", "*"),
]

REFUSED: list[Case] = [
    # A server that somebody has taken over: no release, no model, no rows, nobody's log or report.
    ("endpoint", "s3:PutObject", THE_RELEASE),
    ("endpoint", "s3:PutObject", MODEL),
    ("endpoint", "s3:PutObject", f"{DOCUMENTS}/visits/promotion.json"),
    ("endpoint", "s3:GetObject", SEGMENT),
    ("endpoint", "s3:DeleteObject", SEGMENT),
    ("endpoint", "s3:GetObject", TABLE_FILE),
    ("endpoint", "s3:GetObject", PROMOTIONS),
    ("endpoint", "s3:GetObject", CHECKPOINT),
    ("endpoint", "s3:ListBucket", f"s3://{NAME}-artifacts"),
    ("endpoint", "dynamodb:PutItem", ONLINE),
    ("endpoint", "dynamodb:Scan", ONLINE),
    ("endpoint", "secretsmanager:GetSecretValue", secret("mlops/environment")),
    ("endpoint", "kms:Decrypt", f"{KEY}/lake"),
    ("endpoint", "kms:Decrypt", f"{KEY}/secrets", THROUGH_SECRETS),
    ("endpoint", "sts:AssumeRole", f"{ACCOUNT}:role/mlops/{NAME}-run"),
    ("sagemaker", "s3:PutObject", THE_RELEASE),
    ("sagemaker", "s3:GetObject", TABLE_FILE),
    ("sagemaker", "s3:GetObject", SEGMENT),
    ("sagemaker", "kms:Decrypt", f"{KEY}/lake"),
    ("sagemaker", "ecr:BatchGetImage", repository("mlops-training")),
    ("sagemaker", "ecr:PutImage", repository("mlops-server")),
    ("sagemaker", "logs:PutLogEvents", log_of(f"/aws/eks/{NAME}/cluster")),
    ("sagemaker", "cloudwatch:PutMetricData", "*", {"cloudwatch:namespace": "AWS/EC2"}),
    ("sagemaker", "cloudwatch:PutMetricData", "*"),
    ("sagemaker", "sagemaker:UpdateEndpoint", AN_ENDPOINT, TAGGED),
    ("sagemaker", "sagemaker:CreateModel", A_MODEL, MADE_TAGGED),
    ("sagemaker", "iam:PassRole", f"{ACCOUNT}:role/mlops/{NAME}-sagemaker", TO_SAGEMAKER),
    # A team's training: it decides nothing and sees no secret.
    ("step", "secretsmanager:GetSecretValue", secret("mlops/environment")),
    ("step", "s3:PutObject", PROMOTIONS),
    ("step", "s3:PutObject", DECISIONS),
    ("step", "s3:PutObject", THE_RELEASE),
    ("step", "s3:PutObject", f"{PLACE}/online.json"),
    ("step", "s3:PutObject", f"{DOCUMENTS}/visits/promotion.json"),
    ("step", "s3:PutObject", SEGMENT),
    ("step", "s3:PutObject", REPORT),
    ("step", "s3:DeleteObject", TABLE_FILE),
    ("step", "s3:DeleteObject", MODEL),
    ("step", "dynamodb:PutItem", ONLINE),
    ("step", "sns:Publish", TOPIC),
    ("step", "sqs:ReceiveMessage", QUEUE),
    ("step", "sagemaker:CreateModel", A_MODEL, MADE_TAGGED),
    ("step", "iam:PassRole", f"{ACCOUNT}:role/mlops/{NAME}-sagemaker", TO_SAGEMAKER),
    # A run: it changes no past and speaks for nobody else.
    ("run", "s3:DeleteObject", PROMOTIONS),
    ("run", "s3:DeleteObjectVersion", PROMOTIONS),
    ("run", "s3:BypassGovernanceRetention", PROMOTIONS),
    ("run", "s3:PutObjectRetention", PROMOTIONS),
    ("run", "s3:DeleteObject", TABLE_FILE),
    ("run", "s3:DeleteObjectVersion", TABLE_FILE),
    ("run", "s3:PutObject", SEGMENT),
    ("run", "s3:PutObject", REPORT),
    ("run", "s3:PutObject", CHECKPOINT),
    ("run", "s3:PutBucketPolicy", LAKE),
    ("run", "s3:GetObject", STATE),
    ("run", "secretsmanager:GetSecretValue", secret("mlops/environment")),
    ("run", "kms:Decrypt", f"{KEY}/lake"),
    ("run", "dynamodb:DeleteTable", ONLINE),
    ("run", "dynamodb:Query", f"arn:aws:dynamodb:{HERE}:table/mlops-staging-online"),
    ("run", "sagemaker:CreateModel", A_MODEL),
    ("run", "sagemaker:CreateModel", f"{SAGEMAKER}:model/somebody-elses", MADE_TAGGED),
    ("run", "sagemaker:CreateEndpoint", AN_ENDPOINT),
    ("run", "sagemaker:CreateEndpointConfig", A_CONFIGURATION, on("ml.p4d.24xlarge")),
    ("run", "sagemaker:CreateEndpointConfig", A_CONFIGURATION, on(INSTANCE, "ml.p4d.24xlarge")),
    ("run", "sagemaker:CreateEndpointConfig", A_CONFIGURATION, MADE_TAGGED),
    (
        "run",
        "sagemaker:CreateEndpointConfig",
        A_CONFIGURATION,
        {"sagemaker:InstanceTypes": INSTANCE},
    ),
    ("run", "sagemaker:UpdateEndpoint", f"{SAGEMAKER}:endpoint/somebody-elses"),
    (
        "run",
        "sagemaker:UpdateEndpointWeightsAndCapacities",
        f"{SAGEMAKER}:endpoint/somebody-elses",
    ),
    ("run", "sagemaker:AddTags", f"{SAGEMAKER}:endpoint/somebody-elses", MADE_TAGGED),
    ("run", "sagemaker:AddTags", A_MODEL, {"sagemaker:TaggingAction": "CreateTrainingJob"}),
    ("run", "sagemaker:DeleteModel", A_MODEL),
    ("run", "sagemaker:DeleteEndpoint", AN_ENDPOINT, TAGGED),
    ("run", "sagemaker:CreateTrainingJob", f"{SAGEMAKER}:training-job/visits", on(INSTANCE)),
    ("run", "sagemaker:InvokeEndpoint", AN_ENDPOINT, TAGGED),
    (
        "run",
        "iam:PassRole",
        f"{ACCOUNT}:role/mlops/{NAME}-sagemaker",
        {"iam:PassedToService": "ec2.amazonaws.com"},
    ),
    ("run", "iam:PassRole", f"{ACCOUNT}:role/mlops/{NAME}-dagster", TO_SAGEMAKER),
    ("dagster", "sagemaker:UpdateEndpoint", AN_ENDPOINT, TAGGED),
    # The control plane: it writes decisions and no data.
    ("dagster", "s3:PutObject", TABLE_FILE),
    ("dagster", "s3:PutObject", MODEL),
    ("dagster", "s3:PutObject", REPORT),
    ("dagster", "s3:PutObject", INPUTS),
    ("dagster", "s3:DeleteObject", PROMOTIONS),
    ("dagster", "s3:DeleteObject", f"{LOGS}/storage/run/compute_logs/step.err"),
    ("dagster", "s3:ListBucket", f"s3://{NAME}-logs"),
    ("dagster", "secretsmanager:GetSecretValue", secret("mlops/environment")),
    ("dagster", "sqs:SendMessage", QUEUE),
    ("mlflow", "s3:PutObject", MLFLOW),
    ("mlflow", "s3:GetObject", MODEL),
    ("mlflow", "s3:GetObject", THE_RELEASE),
    ("mlflow", "s3:ListBucket", f"s3://{NAME}-artifacts", {"s3:prefix": "documents/"}),
    ("mlflow", "s3:ListBucket", f"s3://{NAME}-artifacts"),
    ("external-secrets", "secretsmanager:PutSecretValue", secret("mlops/environment")),
    ("external-secrets", "secretsmanager:GetSecretValue", MASTER),
    ("external-secrets", "secretsmanager:GetSecretValue", secret("billing/bank")),
    ("database-bootstrap", "secretsmanager:GetSecretValue", secret("mlops/environment")),
    ("database-bootstrap", "secretsmanager:PutSecretValue", MASTER),
    ("database-bootstrap", "s3:GetObject", TABLE_FILE),
    # CI: a plan reads no data and changes nothing, an apply makes nothing mightier than itself.
    ("ci-plan", "s3:PutObject", STATE),
    ("ci-plan", "s3:PutObject", f"{STATE}.tflock"),
    ("ci-plan", "s3:DeleteObject", f"{STATE}.tflock"),
    ("ci-plan", "s3:GetObject", TABLE_FILE),
    ("ci-plan", "s3:GetObject", f"s3://{NAME}-terraform/other/terraform.tfstate"),
    ("ci-plan", "secretsmanager:GetSecretValue", secret("mlops/environment")),
    ("ci-plan", "dynamodb:GetItem", ONLINE),
    ("ci-plan", "kms:Decrypt", f"{KEY}/lake", THROUGH_S3),
    ("ci-plan", "iam:CreateRole", f"{ACCOUNT}:role/mlops/{NAME}-run", BOUNDED),
    ("ci-plan", "ec2:CreateVpc", "*"),
    ("ci-plan", "logs:GetLogEvents", f"arn:aws:logs:{HERE}:log-group:/{NAME}/audit:log-stream:x"),
    ("ci-apply", "iam:CreateRole", f"{ACCOUNT}:role/mlops/{NAME}-run", UNBOUNDED),
    (
        "ci-apply",
        "iam:CreateRole",
        f"{ACCOUNT}:role/{NAME}-mine",
        {"iam:PermissionsBoundary": "arn:aws:iam::aws:policy/AdministratorAccess"},
    ),
    ("ci-apply", "iam:CreateRole", f"{ACCOUNT}:role/somebody", BOUNDED),
    ("ci-apply", "iam:PutRolePolicy", f"{ACCOUNT}:role/{NAME}-cluster", UNBOUNDED),
    (
        "ci-apply",
        "iam:AttachRolePolicy",
        f"{ACCOUNT}:role/{NAME}-cluster",
        BOUNDED | {"iam:PolicyARN": "arn:aws:iam::aws:policy/AdministratorAccess"},
    ),
    ("ci-apply", "iam:DeleteRolePermissionsBoundary", f"{ACCOUNT}:role/mlops/{NAME}-run"),
    ("ci-apply", "iam:CreatePolicyVersion", f"{ACCOUNT}:policy/mlops/{NAME}-workloads"),
    ("ci-apply", "iam:CreatePolicyVersion", f"{ACCOUNT}:policy/mlops-ci/{NAME}-infrastructure"),
    (
        "ci-apply",
        "iam:CreatePolicyVersion",
        f"{ACCOUNT}:policy/mlops-ci/{NAME}-ci-apply-identities",
    ),
    ("ci-apply", "iam:UpdateAssumeRolePolicy", f"{ACCOUNT}:role/mlops-ci/{NAME}-ci-apply"),
    ("ci-apply", "iam:PutRolePolicy", f"{ACCOUNT}:role/mlops-ci/{NAME}-ci-apply", BOUNDED),
    (
        "ci-apply",
        "iam:PassRole",
        f"{ACCOUNT}:role/mlops/{NAME}-run",
        {"iam:PassedToService": "lambda.amazonaws.com"},
    ),
    ("ci-apply", "iam:CreateUser", f"{ACCOUNT}:user/somebody"),
    ("ci-apply", "iam:CreateAccessKey", f"{ACCOUNT}:user/somebody"),
    ("ci-apply", "sts:AssumeRole", f"{ACCOUNT}:role/mlops/{NAME}-run"),
    ("ci-apply", "secretsmanager:GetSecretValue", secret("mlops/environment")),
    ("ci-apply", "secretsmanager:DeleteSecret", secret("mlops/environment")),
    ("ci-apply", "kms:Decrypt", f"{KEY}/lake", THROUGH_S3),
    (
        "ci-apply",
        "kms:Decrypt",
        f"{KEY}/secrets",
        THROUGH_SECRETS | {"kms:EncryptionContext:SecretARN": secret("mlops/environment")},
    ),
    ("ci-apply", "kms:ScheduleKeyDeletion", f"{KEY}/lake"),
    ("ci-apply", "s3:GetObject", TABLE_FILE),
    ("ci-apply", "s3:DeleteBucket", LAKE),
    ("ci-apply", "s3:PutBucketPolicy", f"s3://{NAME}-terraform"),
    ("ci-apply", "dynamodb:DeleteTable", ONLINE),
    ("ci-apply", "eks:DeleteCluster", f"arn:aws:eks:{HERE}:cluster/{NAME}"),
    ("ci-apply", "rds:DeleteDBInstance", f"arn:aws:rds:{HERE}:db:{NAME}"),
    ("ci-apply", "cloudtrail:StopLogging", f"arn:aws:cloudtrail:{HERE}:trail/{NAME}"),
    ("ci-apply", "ec2:CreateVpc", "*", {"aws:RequestedRegion": "eu-west-1"}),
    ("ci-push", "ecr:PutImage", repository("somebody-elses")),
    ("ci-push", "ecr:BatchDeleteImage", repository("mlops-server")),
    ("ci-push", "s3:GetObject", STATE),
]

ANYWHERE = "*"

MADE_BY: dict[str, tuple[str, str]] = {
    "aws_accessanalyzer_analyzer": ("access-analyzer:CreateAnalyzer", ANYWHERE),
    "aws_budgets_budget": (
        "budgets:ModifyBudget",
        "arn:aws:budgets::123456789012:budget/{name}",
    ),
    "aws_ce_anomaly_monitor": ("ce:CreateAnomalyMonitor", ANYWHERE),
    "aws_ce_anomaly_subscription": ("ce:CreateAnomalySubscription", ANYWHERE),
    "aws_cloudtrail": ("cloudtrail:CreateTrail", f"arn:aws:cloudtrail:{HERE}:trail/{{name}}"),
    "aws_cloudwatch_event_rule": ("events:PutRule", f"arn:aws:events:{HERE}:rule/{{name}}"),
    "aws_cloudwatch_log_group": ("logs:CreateLogGroup", f"arn:aws:logs:{HERE}:log-group:{{name}}"),
    "aws_cloudwatch_log_metric_filter": (
        "logs:PutMetricFilter",
        f"arn:aws:logs:{HERE}:log-group:{{log_group_name}}",
    ),
    "aws_cloudwatch_metric_alarm": (
        "cloudwatch:PutMetricAlarm",
        f"arn:aws:cloudwatch:{HERE}:alarm:{{alarm_name}}",
    ),
    "aws_db_instance": ("rds:CreateDBInstance", f"arn:aws:rds:{HERE}:db:{{identifier}}"),
    "aws_db_parameter_group": (
        "rds:CreateDBParameterGroup",
        f"arn:aws:rds:{HERE}:pg:{{name_prefix}}1",
    ),
    "aws_db_subnet_group": ("rds:CreateDBSubnetGroup", f"arn:aws:rds:{HERE}:subgrp:{{name}}"),
    "aws_dynamodb_table": ("dynamodb:CreateTable", f"arn:aws:dynamodb:{HERE}:table/{{name}}"),
    "aws_ec2_tag": ("ec2:CreateTags", ANYWHERE),
    "aws_ecr_repository": ("ecr:CreateRepository", f"arn:aws:ecr:{HERE}:repository/{{name}}"),
    "aws_eip": ("ec2:AllocateAddress", ANYWHERE),
    "aws_eks_access_entry": (
        "eks:CreateAccessEntry",
        f"arn:aws:eks:{HERE}:cluster/{{cluster_name}}",
    ),
    "aws_eks_access_policy_association": (
        "eks:AssociateAccessPolicy",
        f"arn:aws:eks:{HERE}:access-entry/{{cluster_name}}/role/123456789012/somebody/0",
    ),
    "aws_eks_addon": ("eks:CreateAddon", f"arn:aws:eks:{HERE}:cluster/{{cluster_name}}"),
    "aws_eks_cluster": ("eks:CreateCluster", f"arn:aws:eks:{HERE}:cluster/{{name}}"),
    "aws_eks_node_group": ("eks:CreateNodegroup", f"arn:aws:eks:{HERE}:cluster/{{cluster_name}}"),
    "aws_eks_pod_identity_association": (
        "eks:CreatePodIdentityAssociation",
        f"arn:aws:eks:{HERE}:cluster/{{cluster_name}}",
    ),
    "aws_flow_log": ("ec2:CreateFlowLogs", ANYWHERE),
    "aws_internet_gateway": ("ec2:CreateInternetGateway", ANYWHERE),
    "aws_kms_alias": ("kms:CreateAlias", "arn:aws:kms:us-east-1:123456789012:{name}"),
    "aws_kms_key": ("kms:CreateKey", ANYWHERE),
    "aws_launch_template": ("ec2:CreateLaunchTemplate", ANYWHERE),
    "aws_nat_gateway": ("ec2:CreateNatGateway", ANYWHERE),
    "aws_route": ("ec2:CreateRoute", ANYWHERE),
    "aws_route_table": ("ec2:CreateRouteTable", ANYWHERE),
    "aws_route_table_association": ("ec2:AssociateRouteTable", ANYWHERE),
    "aws_s3_bucket": ("s3:CreateBucket", "arn:aws:s3:::{bucket}"),
    "aws_secretsmanager_secret": (
        "secretsmanager:CreateSecret",
        f"arn:aws:secretsmanager:{HERE}:secret:{{name}}-AbCdEf",
    ),
    "aws_security_group": ("ec2:CreateSecurityGroup", ANYWHERE),
    "aws_sns_topic": ("sns:CreateTopic", f"arn:aws:sns:{HERE}:{{name}}"),
    "aws_sqs_queue": ("sqs:CreateQueue", f"arn:aws:sqs:{HERE}:{{name}}"),
    "aws_subnet": ("ec2:CreateSubnet", ANYWHERE),
    "aws_vpc": ("ec2:CreateVpc", ANYWHERE),
    "aws_vpc_endpoint": ("ec2:CreateVpcEndpoint", ANYWHERE),
    "aws_vpc_security_group_ingress_rule": ("ec2:AuthorizeSecurityGroupIngress", ANYWHERE),
}
"""The call that makes a resource of a type, and the ARN that it is about, by the values."""

PART_OF_ANOTHER = (
    "aws_cloudwatch_event_target",
    "aws_default_security_group",
    "aws_ecr_",
    "aws_iam_",
    "aws_s3_bucket_",
    "aws_secretsmanager_secret_policy",
    "aws_sns_topic_",
    "aws_sqs_queue_",
)
"""Types of what belongs to one of the others; identities are asked about one by one."""
