from dataclasses import dataclass
from typing import Literal

import pytest

from aerial_train.choices import check_choices, nearest


@dataclass(frozen=True)
class Drink:
    kind: Literal["tea", "coffee"] = "tea"
    cups: int = 1


def test_the_nearest_is_named_beside_all():
    assert nearest("jacard", ["dice", "jaccard"]) == "the nearest of dice, jaccard is 'jaccard'"
    assert "is " in nearest("xyz", ["dice", "jaccard"])


def test_only_what_a_literal_allows_passes():
    check_choices(Drink("coffee", 7))
    with pytest.raises(ValueError, match=r"kind cannot be 'cofee'; .*is 'coffee'"):
        check_choices(Drink("cofee"))
