"""Where training computes: what the environment asks for, and what there is."""

import pytest

from mlops_assets.adapters.devices import ENV, device, xgboost_sees_gpu
from mlops_assets.core.errors import PermanentError


@pytest.mark.parametrize(
    ("asked", "has_gpu", "found", "says"),
    [
        (None, False, "cpu", False),
        (None, True, "cuda", False),
        ("auto", True, "cuda", False),
        ("auto", False, "cpu", True),
        ("cpu", True, "cpu", False),
        ("cuda", True, "cuda", False),
    ],
)
def test_the_device_is_what_is_asked_for_and_there(
    monkeypatch: pytest.MonkeyPatch, asked: str | None, has_gpu: bool, found: str, says: bool
) -> None:
    """Only who asked for a GPU hears that there is none."""
    if asked is None:
        monkeypatch.delenv(ENV, raising=False)
    else:
        monkeypatch.setenv(ENV, asked)
    said: list[str] = []
    assert device(said.append, lambda: has_gpu) == found
    assert bool(said) == says


@pytest.mark.parametrize(("asked", "words"), [("cuda", "sees no GPU"), ("gpu", "auto, cpu, cuda")])
def test_a_device_that_is_not_there_or_unknown_is_refused(
    monkeypatch: pytest.MonkeyPatch, asked: str, words: str
) -> None:
    """A profile that demands a GPU does not get hours on a CPU."""
    monkeypatch.setenv(ENV, asked)
    with pytest.raises(PermanentError, match=words):
        device(lambda _: None, lambda: False)


def test_xgboost_is_asked_without_a_word_on_the_terminal(capfd: pytest.CaptureFixture[str]) -> None:
    """Its answer is what it would train on."""
    import xgboost as xgb

    seen = xgboost_sees_gpu()
    assert capfd.readouterr() == ("", "")
    if not xgb.build_info()["USE_CUDA"]:
        assert not seen
