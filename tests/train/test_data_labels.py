"""Words of label files -> classes: what is meant is found, what is not known is named with the nearest."""

import pytest

from aerial_runtime.card import Head, Heading, LabelSpace, load_label_space
from aerial_runtime.errors import InputError
from aerial_train.data.labels import names_of, read_attributes, read_category

SUAS = load_label_space("suas")
PADS = LabelSpace("pads", (Head("kind", ("helipad", "traffic cone")), Head("paint", ("red", "blue"))))


def classes(labels, space=SUAS):
    return {name: word for name, word in names_of(labels, space).items() if word is not None}


@pytest.mark.parametrize(
    ("name", "space", "wanted"),
    [
        ("target", SUAS, {}),
        ("Target", PADS, {}),
        ("star", SUAS, {"shape": "star"}),
        ("Quarter Circle", SUAS, {"shape": "quartercircle"}),
        ("A", SUAS, {"letter": "A"}),
        ("star_A", SUAS, {"shape": "star", "letter": "A"}),
        ("shape_color=red shape=star", SUAS, {"shape": "star", "shape_color": "red"}),
        ("red_helipad", PADS, {"kind": "helipad", "paint": "red"}),
        ("Traffic-Cone", PADS, {"kind": "traffic cone"}),
        (
            "blue traffic_cone",
            LabelSpace("x", (Head("kind", ("cone", "blue traffic cone")),)),
            {"kind": "blue traffic cone"},
        ),
    ],
)
def test_categories_are_classes_of_heads(name, space, wanted):
    assert classes(read_category(name, space, "here"), space) == wanted


@pytest.mark.parametrize(
    ("name", "named"),
    [
        ("red_star", "shape_color and letter_color; rename it so that it says which, such as 'shape_color=red'"),
        ("hexagn", "'hexagn' is no class of the label space 'suas'; the nearest known are hexagon"),
        ("star_blob", "'blob' of the category 'star_blob'"),
        ("form=star", "names the head 'form'; there are shape, letter"),
        ("shape=sta", "shape 'sta' is not in the label space; the nearest known are star"),
    ],
)
def test_categories_that_are_none_are_named_with_the_nearest(name, named):
    with pytest.raises(InputError) as raised:
        read_category(name, SUAS, "here")
    assert named in str(raised.value) and str(raised.value).startswith("here: ")


def test_attributes_null_is_unknown_and_none_is_nothing_there():
    reading = read_attributes({"shape": "Star", "letter": "none", "shape_color": None, "degrees": 370}, SUAS, "here")
    assert reading.labels == {
        "shape": SUAS.head("shape").classes.index("star"),
        "letter": -2,
        "shape_color": -1,
        "letter_color": -1,
    }
    assert reading.degrees == 10


@pytest.mark.parametrize(("value", "degrees"), [("NE", 45), ("n", 0), (225, 225), ("90", 90), (-90, 270), (None, None)])
def test_orientation_is_a_sector_or_degrees(value, degrees):
    assert read_attributes({"orientation": value}, SUAS, "here").degrees == degrees


def test_directions_that_are_none():
    for value, named in (("NNE", "orientation 'NNE'"), (float("nan"), "nan degrees")):
        with pytest.raises(InputError, match=named):
            read_attributes({"orientation": value}, SUAS, "here")
    assert read_attributes({"orientation": "whatever"}, PADS, "here").degrees is None
    quarters = LabelSpace("q", (Head("kind", ("a", "b")),), Heading("up", ("N", "E", "S", "W"), "kind", (), ()))
    assert read_attributes({"up": "S"}, quarters, "here").degrees == 180
