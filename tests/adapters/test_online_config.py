"""What a model server is told about online features: put beside its release, and taken away."""

import pytest

from mlops_assets.adapters.storage import join, read_bytes
from mlops_assets.core.errors import PermanentError
from mlops_assets.core.online import OnlineConfig
from mlops_assets.core.online_spec import OnlineSpec
from mlops_assets.core.spec import UseCaseSpec
from mlops_assets.lifecycle.online_config import (
    COMPUTES_VARIABLE,
    refuse_computed,
    remove_config,
    write_config,
)
from mlops_assets.serving.online_features import OnlineFollower

CLUSTER = "kubernetes://endpoints"
CONFIG = OnlineConfig(
    use_case="visits",
    layout="0" * 8,
    url="redis://127.0.0.1:1/0",
    views=(),
    computed=None,
    lead=0,
    on_timeout="default",
    timeout_s=0.05,
)


def test_what_servers_looked_up_is_taken_away_as_a_whole(s3_bucket: str) -> None:
    """On S3, where servers of a cluster read it; taking it away again changes nothing."""
    url = write_config(CONFIG, CLUSTER, s3_bucket)
    place = join(s3_bucket, "endpoints", "visits")
    assert url == join(place, "online.json")
    follower = OnlineFollower(place)
    assert follower.poll()
    assert follower.features is not None
    for _ in range(2):
        remove_config("visits", CLUSTER, s3_bucket)
        assert read_bytes(url) is None
    later = OnlineFollower(place)
    later.poll()
    assert later.features is None
    assert later.error is None


def test_servers_elsewhere_compute_nothing_unless_their_image_can(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The platform's own image has neither polars nor a use case's code: said before anything is
    written, and not by each request that is refused.
    """
    online = OnlineSpec(computed=["visit"], event_columns=["minutes"])
    spec = UseCaseSpec.model_construct(name="visits", online=online)
    monkeypatch.delenv(COMPUTES_VARIABLE, raising=False)
    refuse_computed(spec, "/a/folder")
    with pytest.raises(PermanentError, match=r"visits: its servers are to compute visit.*image"):
        refuse_computed(spec, CLUSTER)
    refuse_computed(UseCaseSpec.model_construct(name="visits", online=OnlineSpec()), CLUSTER)
    refuse_computed(UseCaseSpec.model_construct(name="visits", online=None), CLUSTER)
    monkeypatch.setenv(COMPUTES_VARIABLE, "true")
    refuse_computed(spec, CLUSTER)
