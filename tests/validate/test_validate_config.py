from itertools import islice

import pytest
from pydantic import ValidationError

from flp_ray.validate.config import ValidationConfig


@pytest.mark.parametrize(
    ("seeds", "study_seed", "taken", "both"),
    [
        (1, 0, [1], False),
        (1, 1, [2], False),
        (3, 0, [1, 2, 3], True),
        (3, 2, [1, 3, 4], True),
        ([7], 0, [7], False),
        ([7, 5], 0, [7, 5], True),
    ],
)
def test_a_number_draws_seeds_and_a_list_names_them(seeds, study_seed, taken, both):
    config = ValidationConfig(seeds=seeds)
    assert list(islice(config.candidates(study_seed), config.trainings)) == taken
    assert config.both_sides == both


def test_one_training_is_the_default_and_more_trainings_keep_the_seeds_before():
    assert ValidationConfig().seeds == 1
    fewer, more = (list(islice(ValidationConfig(seeds=n).candidates(0), n)) for n in (2, 4))
    assert more[:2] == fewer


@pytest.mark.parametrize("seeds", [0, -1, True, 1.5, "3", [], [0.5], [-1], [2**31], [True], None])
def test_what_is_neither_a_number_nor_a_list_of_seeds_is_refused_once(seeds):
    with pytest.raises(ValidationError) as refused:
        ValidationConfig(seeds=seeds)
    (problem,) = refused.value.errors()
    assert "a number of trainings, 1 or more, or a list" in problem["msg"]


def test_a_seed_that_comes_twice_is_refused():
    with pytest.raises(ValidationError, match="must differ"):
        ValidationConfig(seeds=[1, 1])
