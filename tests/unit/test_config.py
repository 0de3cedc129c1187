"""Settings: validation, error messages, and conversion to and from text."""

import argparse
import dataclasses
import json
import math

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from kd.config.distil import (
    INITIALIZATIONS,
    MAX_STEPS,
    METHOD_SETTINGS,
    DistilConfig,
)
from kd.config.presets import PRESETS
from kd.config.search import SearchConfig
from kd.config.sweep import SweepConfig
from kd.config.teacher import TeacherConfig
from kd.data.augmentation import AUGMENTATIONS
from kd.errors import UserError
from kd.models import registry
from kd.objectives import METHODS
from kd.training.forward_backward import PRECISIONS

CONFIGS = [DistilConfig, TeacherConfig]
NUMBERS = ["epochs", "batch_size", "learning_rate", "seed", *METHOD_SETTINGS]
METHOD_OF = {
    name: next(method.name for method in METHODS.values() if name in method.settings)
    for name in METHOD_SETTINGS
}
WHOLE = ["epochs", "batch_size", "seed"]

architectures = st.sampled_from(registry.students()) | st.lists(
    st.integers(1, registry.MAX_WIDTH), min_size=1, max_size=3
).map(lambda widths: registry.own_name(tuple(widths)))
temperatures, soft_weights = st.floats(1, 20), st.floats(0, 1)
changes = st.tuples(st.integers(0, MAX_STEPS), st.just("temperature"), temperatures) | st.tuples(
    st.integers(0, MAX_STEPS), st.just("soft_weight"), soft_weights
)
shared = {
    "epochs": st.integers(1, 200),
    "batch_size": st.integers(1, 4096),
    "learning_rate": st.floats(1e-6, 1),
    "seed": st.integers(0, 2**31 - 1),
}
of_methods = {
    name: st.floats(DistilConfig.setting(name)["low"], DistilConfig.setting(name)["high"])
    for name in METHOD_SETTINGS
}


@st.composite
def distil_configs(draw):
    method = draw(st.sampled_from(list(METHODS.values())))
    student = {"maps": st.just("cnn-tiny"), None: architectures}.get(
        method.feature_view, architectures.filter(lambda name: name != "linear")
    )
    schedule = st.lists(changes.filter(lambda change: change[1] in method.settings), max_size=6)
    return DistilConfig(
        method=method.name,
        student=draw(student),
        teacher=draw(st.text(max_size=100).filter(lambda name: "+" not in name)),
        initialization=draw(st.sampled_from(INITIALIZATIONS)),
        schedule=draw(schedule),
        **{name: draw(of_methods[name]) for name in method.settings},
        **{name: draw(values) for name, values in shared.items()},
    )


teacher_configs = st.builds(
    TeacherConfig,
    **shared,
    teacher=architectures,
    augmentation=st.sampled_from(list(AUGMENTATIONS)),
    precision=st.sampled_from(list(PRECISIONS)),
)
configs = distil_configs() | teacher_configs


def arguments(config, query):
    """Return the config that the command line parses from settings written as URL parameters."""
    parser = argparse.ArgumentParser()
    type(config).add_arguments(parser)
    options = [f"--{name.replace('_', '-')}={value}" for name, value in query.items()]
    return type(config).from_arguments(parser.parse_args(options))


def refused(message):
    """Return whether a message is one short plain line."""
    return (
        "\n" not in message and 10 < len(message) < 250 and message.endswith(".") and "Error" not in message
    )


# -- conversion to and from text ------------------------------------------------------------


@given(configs)
def test_config_survives_dict_query_and_command_line(config):
    assert type(config).from_dict(config.to_dict()) == config
    assert type(config).from_query(config.to_query()) == config
    assert arguments(config, config.to_query()) == config
    assert config.replace() == config


@given(configs)
def test_config_is_hashable_and_its_dict_is_json(config):
    assert hash(config) == hash(config.replace())
    assert type(config).from_dict(json.loads(json.dumps(config.to_dict()))) == config


@pytest.mark.parametrize("cls", CONFIGS)
def test_defaults_are_valid_and_need_no_url(cls):
    assert cls().to_query() == {} and cls.from_query({}) == cls() == cls.from_dict({})
    assert arguments(cls(), {}) == cls()


def test_url_holds_only_differences_from_the_defaults():
    assert DistilConfig(temperature=8, seed=3).to_query() == {"temperature": "8.0", "seed": "3"}


def test_unknown_parameters_are_ignored_in_urls_but_not_in_dicts():
    assert DistilConfig.from_query({"run": "5", "epochs": "3"}) == DistilConfig(epochs=3)
    with pytest.raises(
        UserError,
        match=(
            r"There is no setting called 'run'; the settings are assistant, augmentation, batch_size, "
            r"certainty, epochs, "
        ),
    ):
        DistilConfig.from_dict({"run": 5, "epochs": 3})


def test_numbers_are_parsed_from_text():
    config = DistilConfig.from_query({"epochs": "3.0", "temperature": "2", "seed": " 7 "})
    assert (config.epochs, config.temperature, config.seed) == (3, 2.0, 7)
    assert type(config.epochs) is int and type(config.temperature) is float


def test_config_is_frozen_and_replace_validates():
    with pytest.raises(dataclasses.FrozenInstanceError):
        DistilConfig().epochs = 3
    with pytest.raises(UserError, match="Epochs must be between 1 and 200"):
        DistilConfig().replace(epochs=0)


@pytest.mark.parametrize("name", PRESETS)
def test_presets_are_valid_and_hold_only_differences(name):
    config = DistilConfig.from_dict(PRESETS[name])
    assert set(config.to_query()) == set(PRESETS[name]) and config.student in registry.students()


# -- validation -------------------------------------------------------------------------------

BAD = [
    math.nan,
    math.inf,
    -math.inf,
    "nan",
    "inf",
    -1,
    -0.5,
    1e9,
    10**18,
    10**400,
    10**5000,
    "1e999",
    "abc",
    "",
    "1,5",
    "0x10",
    True,
    False,
    None,
    [],
    [3],
    {},
    (),
    {"a": 1},
    object(),
    3j,
    b"\xff",
]


@pytest.mark.parametrize("value", BAD, ids=lambda value: type(value).__name__)
@pytest.mark.parametrize("name", NUMBERS)
def test_bad_number_is_refused_with_the_label_of_its_setting(name, value):
    if name == "seed" and value == 1e9:
        value = 2**31
    with pytest.raises(UserError) as error:
        DistilConfig(**{name: value})
    assert str(error.value).startswith(DistilConfig.setting(name)["label"] + " must be ") and refused(
        str(error.value)
    )


@pytest.mark.parametrize("name", ["epochs", "batch_size", "learning_rate"])
def test_zero_is_refused_where_nothing_would_be_learned(name):
    with pytest.raises(UserError, match="must be between"):
        DistilConfig(**{name: 0})


@pytest.mark.parametrize("name", WHOLE)
def test_fraction_is_refused_where_a_whole_number_is_needed(name):
    with pytest.raises(UserError, match=r"must be a whole number, not '2\.5'\."):
        DistilConfig(**{name: 2.5})


@pytest.mark.parametrize("name", NUMBERS)
def test_limits_are_inclusive(name):
    about, method = DistilConfig.setting(name), METHOD_OF.get(name, "hinton")
    for limit, beyond in ((about["low"], -1), (about["high"], 1)):
        assert getattr(DistilConfig(method=method, **{name: limit}), name) == limit
        outside = limit + beyond if name in WHOLE else math.nextafter(limit, beyond * math.inf)
        with pytest.raises(UserError, match="must be between") as error:
            DistilConfig(**{name: outside})
        assert str(error.value).endswith(f", not {outside:,}."), "the message must quote the number as given"


def test_messages_name_the_setting_and_its_range():
    for values, message in [
        ({"temperature": 0.5}, "Temperature must be between 1 and 20, not 0.5."),
        ({"seed": -1}, "Seed must be between 0 and 2,147,483,647, not -1."),
        ({"epochs": "many"}, "Epochs must be a whole number, not 'many'."),
        ({"soft_weight": "x" * 1000}, f"Soft weight must be a number, not '{'x' * 40}'."),
        ({"method": "magic"}, f"There is no method called 'magic'; the methods are {', '.join(METHODS)}."),
        ({"student": None}, "Student must be a name, not 'None'."),
    ]:
        with pytest.raises(UserError) as error:
            DistilConfig(**values)
        assert str(error.value) == message


@pytest.mark.parametrize(
    "value", [None, 5, ["mlp-30"], {}, True, 10**5000, b"cnn"], ids=lambda value: type(value).__name__
)
@pytest.mark.parametrize("name", ["student", "teacher", "method"])
def test_name_must_be_text(name, value):
    with pytest.raises(UserError, match=f"{name.capitalize()} must be a name") as error:
        DistilConfig(**{name: value})
    assert refused(str(error.value))


@pytest.mark.parametrize(
    "student", ["resnet", "", "mlp-", "mlp-0", "mlp-99999", "mlp-1-2-3-4", "../mlp-30", "MLP-30", "x" * 1000]
)
def test_unknown_architecture_is_refused(student):
    for cls, name in ((DistilConfig, "student"), (TeacherConfig, "teacher")):
        with pytest.raises(UserError) as error:
            cls(**{name: student})
        assert refused(str(error.value)) and "rchitecture" in str(error.value)


def test_augmentation_teacher_and_initialization_are_checked():
    with pytest.raises(UserError, match="Augmentation must be one of none, jitter, affine"):
        TeacherConfig(augmentation="mixup")
    with pytest.raises(UserError, match="Augmentation must be a name"):
        TeacherConfig(augmentation=["jitter"])
    with pytest.raises(
        UserError, match="Teacher must be the name of a shipped teacher or the id of a teacher run"
    ):
        DistilConfig(teacher="x" * 101)
    for name in ("pretrained", "", "Teacher"):
        with pytest.raises(UserError, match="^Initial weights must be random or teacher.$"):
            DistilConfig(initialization=name)


# -- methods ----------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", METHOD_SETTINGS)
def test_setting_is_refused_where_the_method_ignores_it(method, name):
    about = DistilConfig.setting(name)
    values = {"method": method, "student": "cnn-tiny", name: about["high"]}
    if name in METHODS[method].settings:
        assert getattr(DistilConfig(**values), name) == about["high"]
        return
    with pytest.raises(UserError) as error:
        DistilConfig(**values)
    assert str(error.value).startswith(
        f"{about['label']} plays no part in the method {method}, which uses "
    ) and refused(str(error.value))
    assert DistilConfig(**values | {name: about["default"]}).method == method


def test_schedule_may_only_change_settings_of_the_method():
    DistilConfig(method="mse", schedule="5:soft_weight=0.5")
    with pytest.raises(
        UserError, match="Temperature plays no part in the method mse, which uses soft_weight; leave it out"
    ):
        DistilConfig(method="mse", schedule="5:temperature=3")


@pytest.mark.parametrize(
    ("method", "student", "message"),
    [
        (
            "attention",
            "mlp-128",
            "The method attention compares feature maps (the outputs of convolutions), "
            "but the student mlp-128 has none",
        ),
        (
            "fitnets",
            "linear",
            "The method fitnets compares hidden layers, but the student linear has none; "
            "choose another student or method.",
        ),
    ],
)
def test_student_without_the_compared_layers_is_refused(method, student, message):
    with pytest.raises(UserError) as error:
        DistilConfig(method=method, student=student)
    assert str(error.value).startswith(message) and refused(str(error.value))


def test_up_to_five_different_teachers_are_joined_by_plus():
    assert DistilConfig(teacher="a+b+c+d+e").teacher == "a+b+c+d+e"
    for teacher in ("a+b+c+d+e+f", "a+a"):
        with pytest.raises(UserError, match="Teacher can combine up to 5 different teachers, joined"):
            DistilConfig(teacher=teacher)


# -- arbitrary input --------------------------------------------------------------------------

names = st.sampled_from([spec.name for cls in CONFIGS for spec in dataclasses.fields(cls)] + ["other"])
texts = st.text(max_size=50) | st.sampled_from(
    ["mlp-30", "5", "nan", "1e308", "-0", "5:temperature=2", "mlp-5-5"]
)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | texts,
    lambda inner: st.lists(inner) | st.dictionaries(texts, inner),
    max_leaves=6,
)


@given(st.sampled_from(CONFIGS), st.dictionaries(names, texts))
@example(DistilConfig, {"schedule": "1:temperature=" + "9" * 5000})
def test_any_url_gives_a_config_or_a_user_error(cls, query):
    try:
        assert isinstance(cls.from_query(query), cls)
    except UserError as error:
        assert str(error)


@given(st.sampled_from(CONFIGS), st.dictionaries(names, values))
def test_any_stored_settings_give_a_config_or_a_user_error(cls, stored):
    try:
        assert isinstance(cls.from_dict(stored), cls)
    except UserError as error:
        assert str(error)


# -- labels and help ----------------------------------------------------------------------------


@pytest.mark.parametrize("cls", CONFIGS)
def test_every_setting_has_a_label_and_one_line_of_help(cls):
    for spec in dataclasses.fields(cls):
        about = cls.setting(spec.name)
        assert about["label"] and about["help"] and "\n" not in about["help"] and len(about["help"]) < 160
        if about.get("low") is not None:
            assert about["low"] <= about["default"] <= about["high"] and about["step"] > 0


@pytest.mark.parametrize("cls", CONFIGS)
def test_command_line_help_shows_every_default(cls):
    parser = argparse.ArgumentParser()
    cls.add_arguments(parser)
    text = " ".join(parser.format_help().split())
    assert "(default: 0)" in text and "(default: 128)" in text and "(default: 0.004)" in text
    assert text.count("(default: none)") == (3 if cls is DistilConfig else 0), (
        "schedule, augmentation and omitted digits"
    )


@pytest.mark.parametrize("text", ["1,2", "1 2", " 2 , 1", "1,,2,", "2\n1"])
def test_lists_are_split_at_commas_and_spaces(text):
    assert SweepConfig(temperature=text).temperature == "1,2"
    names = text.replace("1", "hinton").replace("2", "dkd")
    assert set(SearchConfig(methods=names).methods.split(",")) == {"hinton", "dkd"}
    assert set(SweepConfig(method=names).values("method")) == {"hinton", "dkd"}
    widths = text.replace("1", "mlp-30").replace("2", "mlp-64")
    assert set(SweepConfig(student=widths).values("student")) == {"mlp-30", "mlp-64"}


@pytest.mark.parametrize("text", ["1;2", "1_2", "1.2.3", "1/2"])
def test_lists_with_other_separators_are_refused(text):
    with pytest.raises(UserError, match="Temperature must be a number, not"):
        SweepConfig(temperature=text)


def test_number_with_underscores_is_refused():
    with pytest.raises(UserError, match="Epochs must be a whole number, not '1_2'"):
        DistilConfig(epochs="1_2")
