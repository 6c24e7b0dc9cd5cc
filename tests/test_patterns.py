import pytest

from nvfp4_trt.errors import PatternMatchesNothingError
from nvfp4_trt.patterns import matching

NAMES = ["encoder.0.query", "encoder.0.value", "encoder.1.query", "head"]


@pytest.mark.parametrize(
    ("patterns", "found"),
    [
        ([], set()),
        (["head"], {"head"}),
        (["*.query"], {"encoder.0.query", "encoder.1.query"}),
        (["encoder.*"], set(NAMES) - {"head"}),
        (["encoder.?.value", "head"], {"encoder.0.value", "head"}),
        (["encoder.[!0].*"], {"encoder.1.query"}),
        (["*", "head"], set(NAMES)),
    ],
)
def test_globs_over_whole_names(patterns, found):
    assert matching(NAMES, patterns, option="--only") == found


def test_names_may_come_from_an_iterator():
    assert matching(iter(NAMES), ["head", "*.value"], option="--only") == {"head", "encoder.0.value"}


@pytest.mark.parametrize(
    ("pattern", "nearest"),
    [("haed", "head"), ("encoder.1.qeury", "encoder.1.query"), ("*.valeu", "encoder.0.value")],
)
def test_a_pattern_without_a_match_names_the_nearest(pattern, nearest):
    with pytest.raises(PatternMatchesNothingError) as caught:
        matching(NAMES, ["head", pattern], option="--exclude")
    assert caught.value.message == f"--exclude {pattern!r} matches none of the 4 layers"
    assert repr(nearest) in caught.value.hint


def test_matching_knows_upper_case():
    with pytest.raises(PatternMatchesNothingError):
        matching(NAMES, ["HEAD"], option="--only")


def test_no_layers_at_all():
    with pytest.raises(PatternMatchesNothingError) as caught:
        matching([], ["x"], option="--only")
    assert caught.value.hint == "the model has no layer to match"
