"""Errors cross process borders and carry their exit codes."""

import pickle

import pytest

from flp_ray import errors


def every_error(base=errors.FlpRayError):
    return [base, *(e for child in base.__subclasses__() for e in every_error(child))]


@pytest.mark.parametrize("kind", every_error())
def test_errors_survive_pickling(kind):
    error = pickle.loads(pickle.dumps(kind("what happened")))
    assert (type(error), str(error)) == (kind, "what happened")


def test_the_drawn_tree_is_the_real_one():
    for kind in every_error():
        assert kind.__name__ in (errors.__doc__ or "")


def test_wrong_input_exits_with_2():
    assert {e.exit_code for e in every_error(errors.InputError)} == {2}
