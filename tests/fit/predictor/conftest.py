import pytest

from flp_ray.fit.predictor.question import question_of
from flp_ray.synthetic import LADDER_SIZES, LadderWorld, join

TARGETS = ((6.9e9, 3.9e12), (13.2e9, 5e12))


@pytest.fixture(scope="session")
def world():
    return LadderWorld()


@pytest.fixture(scope="session")
def ladder(world):
    """Fifteen sampling runs up to 3.2B and two targets, like a published ladder."""
    return join(world.records(LADDER_SIZES, 0), world.records(TARGETS, 0, purpose="target", checkpoints=1))


@pytest.fixture(scope="session")
def question(ladder):
    return question_of(ladder, None, None)


@pytest.fixture(scope="session")
def table(question):
    return question.fitted
