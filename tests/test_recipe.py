import pytest
import yaml
from pydantic import ValidationError

from nvfp4_trt.cli.options import WEIGHT_METHODS
from nvfp4_trt.errors import FileMissingError, PatternMatchesNothingError, RecipeInvalidError
from nvfp4_trt.recipe import (
    DEFAULT_RECIPE,
    RECIPES,
    ActivationScaling,
    Recipe,
    RuleName,
    WeightMethod,
    as_mapping,
    load_recipe,
)


@pytest.fixture
def write(tmp_path):
    def write(text, name="mine.yaml"):
        path = tmp_path / name
        path.write_text(text)
        return path

    return write


def test_the_built_in_names():
    assert list(RECIPES) == ["w4a4-dynamic", "w4a4-dynamic-token", "w4a4-static", "w4a4-single-level", "w4a16"]
    assert [r.activations.scaling for r in RECIPES.values()] == list(ActivationScaling)
    assert all(recipe.name == name for name, recipe in RECIPES.items())
    assert DEFAULT_RECIPE == "w4a4-dynamic-token"


@pytest.mark.parametrize("name", RECIPES)
def test_a_name_and_a_recipe_load_as_themselves(name):
    assert load_recipe(name) is RECIPES[name]
    assert load_recipe(RECIPES[name]) is RECIPES[name]


@pytest.mark.parametrize(
    "recipe",
    [
        *RECIPES.values(),
        RECIPES["w4a4-static"].model_copy(update={"only": ("a.*", "b"), "exclude": ("*.head",), "name": "x y"}),
        Recipe(name="methods", weights={"method": "mse", "methods": {"z": "gptq", "*": "max", "a": "gptq+mse"}}),
    ],
    ids=lambda r: r.name,
)
@pytest.mark.parametrize("suffix", [".yaml", ".yml"])
def test_yaml_round_trip(write, recipe, suffix):
    path = write(yaml.safe_dump(recipe.model_dump(mode="json")), f"saved{suffix}")
    assert load_recipe(path) == recipe
    assert load_recipe(str(path)) == recipe


def test_json_is_yaml(write):
    assert load_recipe(write(RECIPES["w4a16"].model_dump_json())) == RECIPES["w4a16"]


def test_a_base_and_what_differs(write):
    recipe = load_recipe(write("base: w4a16\nweights: {rule: modelopt}\nexclude: ['*.head']\n"))
    assert recipe == Recipe(
        name="mine",
        weights={"rule": RuleName.MODELOPT},
        activations={"scaling": ActivationScaling.NONE},
        exclude=("*.head",),
    )


def test_without_a_base_it_is_the_default(write):
    assert load_recipe(write("exclude: [head]\n")).activations.scaling is ActivationScaling.DYNAMIC_TOKEN


def test_one_key_of_a_section_leaves_the_others(write):
    recipe = load_recipe(write("base: w4a4-static\nweights: {rule: torchao}\n"))
    assert recipe.activations.scaling is ActivationScaling.STATIC
    assert recipe.weights.rule is RuleName.TORCHAO


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("base: w4a4-static\n", {"observer": "max"}),
        ("activations: {scaling: static}\n", {"observer": "max"}),
        ("base: w4a4-static\nactivations: {observer: mse}\n", {"observer": "mse"}),
        (
            "base: w4a4-static\nactivations: {observer: percentile}\n",
            {"observer": "percentile", "percentile": 99.999},
        ),
        (
            "base: w4a4-static\nactivations: {observer: headroom, ratio: 100}\n",
            {"observer": "headroom", "percentile": 99.99, "anchor": 1.0, "ratio": 100.0},
        ),
    ],
)
def test_an_observer_is_written_out_with_its_parameters(write, text, found):
    recipe = load_recipe(write(text))
    told = recipe.activations.model_dump(mode="json", exclude_none=True)
    assert told == {"scaling": "static", **found}
    assert load_recipe(write(yaml.safe_dump(recipe.model_dump(mode="json")), "again.yaml")) == recipe


def test_another_scaling_drops_the_observer_of_its_base(write):
    recipe = load_recipe(write("base: w4a4-static\nactivations: {scaling: dynamic}\n"))
    assert recipe.activations.scaling is ActivationScaling.DYNAMIC
    assert recipe.activations.observer is None


def test_its_own_name_wins_over_the_files(write):
    assert load_recipe(write("name: ours\n")).name == "ours"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("wieghts: {rule: spec}\n", "wieghts: unknown key"),
        ("weights: {rul: spec}\n", "weights.rul: unknown key"),
        ("activations: {scaling: statik}\n", "activations.scaling: Input should be 'dynamic'"),
        ("base: w4a4-static\nactivations: {observer: average}\n", "activations.observer: Input should be 'max'"),
        ("base: w4a4-static\nactivations: {observer: [max]}\n", "activations.observer: Input should be 'max'"),
        (
            "activations: {observer: max}\n",
            "activations: observer is for `scaling: static`, and the scaling is dynamic-",
        ),
        ("activations: {percentile: 99}\n", "activations: percentile is for `scaling: static`"),
        ("base: w4a4-static\nactivations: {percentile: 99}\n", "percentile is no parameter of the observer max"),
        ("activations: {scaling: static, observer: mse, ratio: 2}\n", "ratio is no parameter of the observer mse"),
        *(
            (f"activations: {{scaling: static, observer: {observer}}}\n", f"activations.{said}")
            for observer, said in (
                ("percentile, percentile: 0", "percentile: Input should be greater than 0"),
                ("percentile, percentile: 100.1", "percentile: Input should be less than or equal to 100"),
                ("percentile, percentile: .nan", "percentile: Input should be"),
                ("headroom, anchor: -1", "anchor: Input should be greater than 0"),
                ("headroom, ratio: 30000", "ratio: Input should be less than or equal to 28672"),
            )
        ),
        ("weights: {rule: 4}\n", "weights.rule: Input should be 'spec'"),
        ("only: head\n", "only: Input should be a valid tuple"),
        ("1: 2\n", "1: "),
        ("base: w4a5\n", "base 'w4a5' is not a built-in recipe"),
        ("base: [w4a16]\n", "base ['w4a16'] is not a built-in recipe"),
        ("- a\n- b\n", "holds no mapping"),
        ("", "holds no mapping"),
        ("a: [b\n", "is not YAML"),
        ("a: !!python/object/apply:os.getcwd []\n", "is not YAML"),
    ],
)
def test_recipes_that_are_none(write, text, said):
    path = write(text)
    with pytest.raises(RecipeInvalidError) as caught:
        load_recipe(path)
    assert str(path) in caught.value.message
    assert said in caught.value.message
    assert "\n" not in caught.value.message
    assert caught.value.hint


def test_bytes_that_are_no_text(tmp_path):
    (tmp_path / "r.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(RecipeInvalidError, match="not YAML"):
        load_recipe(tmp_path / "r.yaml")


def test_an_unknown_key_lists_the_known_ones(write):
    with pytest.raises(RecipeInvalidError) as caught:
        load_recipe(write("wieghts: 1\n"))
    for key in ("base", "name", "only", "exclude", "weights.rule", "activations.scaling"):
        assert key in caught.value.hint


def test_a_name_that_is_none():
    with pytest.raises(RecipeInvalidError, match="'w4a5' is not a built-in recipe") as caught:
        load_recipe("w4a5")
    assert all(name in caught.value.hint for name in RECIPES)


def test_a_file_that_does_not_exist(tmp_path):
    with pytest.raises(FileMissingError, match=r"nowhere\.yaml"):
        load_recipe(tmp_path / "nowhere.yaml")


def test_a_recipe_cannot_be_changed():
    with pytest.raises(ValidationError, match="frozen"):
        RECIPES["w4a16"].name = "other"


def test_transforms_of_a_file(tmp_path):
    path = tmp_path / "smooth.yaml"
    path.write_text("smooth: {method: awq, alpha: 0.4}\nweights: {low_rank: 32}\n")
    recipe = load_recipe(path)
    assert recipe.transforms == ("`smooth: awq`", "`weights.low_rank: 32`")
    assert as_mapping(recipe)["smooth"] == {"method": "awq", "alpha": 0.4}


@pytest.mark.parametrize("text", ["smooth: {alpha: 0}", "smooth: {method: more}", "weights: {low_rank: -1}"])
def test_bad_transforms_of_a_file(tmp_path, text):
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(RecipeInvalidError, match=r"smooth|low_rank"):
        load_recipe(path)


def test_the_last_pattern_that_matches_a_layer_says_its_method(write):
    text = """
    weights:
      method: mse
      methods:
        "enc.*": gptq+mse
        "*.out": four-over-six
    """
    weights = load_recipe(write(text)).weights
    names = ["enc.q", "enc.out", "head"]
    assert weights.methods_of(names) == {
        "enc.q": WeightMethod.GPTQ_MSE,
        "enc.out": WeightMethod.FOUR_OVER_SIX,
        "head": WeightMethod.MSE,
    }
    assert [method.needs_inputs for method in WeightMethod] == [False, False, False, True, True, True]
    with pytest.raises(PatternMatchesNothingError, match=r"weights\.methods 'enc\.\*' matches none"):
        weights.methods_of(["head", "a.out"])


def test_an_unknown_method_is_named(write):
    with pytest.raises(RecipeInvalidError, match=r"weights\.methods\.0\.1: Input should be 'max', 'mse'"):
        load_recipe(write("weights: {methods: {'*': best}}"))


def test_the_command_line_offers_every_method():
    assert tuple(WeightMethod) == WEIGHT_METHODS
