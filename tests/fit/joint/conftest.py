"""Planted runs and their fits, small enough to be made in a tenth of a second each."""

import numpy as np
import pytest

from flp_ray import synthetic
from flp_ray.core.mixture import Mixture
from flp_ray.fit.config import FitSettings
from flp_ray.fit.joint import fit_joint
from flp_ray.fit.joint.kernel import Frame, Numbers


def random_mixtures(world, number, seed):
    rows = np.random.default_rng(seed).dirichlet(np.ones(len(world.sources)), number)
    return tuple(Mixture.of(dict(zip(world.sources, row, strict=True))) for row in rows)


def planted_records(world, seed=0, *, sizes=("0.2B", "0.5B"), number=None):
    """Random mixtures at the first size, the first three of them at each other size."""
    first = random_mixtures(world, number or 2 * len(world.sources) + 2, seed)
    design = synthetic.Design(
        sizes=(synthetic.paper_size(sizes[0]),),
        mixtures=first,
        extra=tuple((synthetic.paper_size(s), m) for s in sizes[1:] for m in first[:3]),
        checkpoints=10,
    )
    return world.records(design, seed)


@pytest.fixture(scope="session")
def random_mixtures_of():
    return random_mixtures


@pytest.fixture(scope="session")
def records_of():
    return planted_records


@pytest.fixture(scope="session")
def world():
    return synthetic.many_source_world(4)


@pytest.fixture(scope="session")
def records(world):
    return planted_records(world)


@pytest.fixture(scope="session")
def fitted(records):
    """Four sources at two sizes: the losses' floor is not sought."""
    return fit_joint(records, FitSettings())


@pytest.fixture(scope="session")
def fitted_floors():
    """Three sizes of a world whose losses level off: several floors are possible."""
    floored = synthetic.losses_with_a_floor(synthetic.many_source_world(4))
    return fit_joint(planted_records(floored, sizes=("0.2B", "0.5B", "1B")), FitSettings())


@pytest.fixture(scope="session")
def runs_of():
    """Inputs of runs drawn at random over three sizes, with their frame; every fourth one repeats the one before."""

    def made(seed, number=16, sources=3):
        generator = np.random.default_rng(seed)
        ratios = generator.dirichlet(np.ones(sources), number)
        flops = generator.choice([1e18, 1e19, 1e20], number)
        ratios[3::4], flops[3::4] = ratios[2::4], flops[2::4]
        frame = Frame.of(ratios, flops, 0.01)
        return frame.inputs(ratios, flops), frame

    return made


@pytest.fixture(scope="session")
def numbers_of():
    """The covariance's numbers for so many sources; those that are named take the place of the usual ones."""

    def made(sources=3, **named):
        usual = {"surface": 0.05, "slope": 0.03, "turn": 0.1, "size": 0.004, "fault": 0.003, "noise": 0.005}
        return Numbers(lengths=np.full(sources, 0.8), **(usual | named))

    return made
