"""FLOPs and parameters against Table 1 of the paper."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flp_ray.core.shape import ModelShape
from flp_ray.errors import ConfigError
from flp_ray.plan import PAPER_LADDER

# The FLOPs column of Table 1 (Chen et al. 2024), as printed.
TABLE_1_FLOPS = {
    "43M": "3.70504E+17",
    "64M": "1.18417E+18",
    "89M": "3.03607E+18",
    "0.12B": "6.81931E+18",
    "0.15B": "1.39581E+19",
    "0.2B": "2.63435E+19",
    "0.25B": "4.71817E+19",
    "0.32B": "8.01571E+19",
    "0.5B": "2.05963E+20",
    "0.72B": "4.70331E+20",
    "1B": "9.75926E+20",
    "3B": "9.63212E+21",
    "7B": "5.09208E+22",
    "13B": "9.89592E+22",
}


def test_every_flops_figure_of_table_1_in_all_six_digits():
    ours = {rung.size: f"{rung.shape.flops(rung.train_tokens, 2048):.5E}" for rung in PAPER_LADDER}
    assert ours == TABLE_1_FLOPS


def test_paper_tokens_are_about_182_5_times_all_parameters_up_to_7b():
    for rung in PAPER_LADDER[:-1]:
        multiple = rung.train_tokens / rung.shape.params(50_304)
        assert multiple == pytest.approx(182.5, rel=0.03), rung.size  # the paper rounds its multiples


@given(st.integers(1, 40), st.integers(1, 16), st.integers(1, 32), st.integers(1, 4096))
def test_flops_grow_linearly_with_tokens(layers, heads, half_head, ffn):
    shape = ModelShape(layers=layers, hidden=heads * half_head * 2, heads=heads, ffn=ffn)
    assert shape.flops(2_000, 128) == 2 * shape.flops(1_000, 128)
    assert shape.params(1_000) == shape.non_embedding_params + 2_000 * shape.hidden


@pytest.mark.parametrize("bad", [{"layers": 0}, {"heads": 3}, {"hidden": 6, "heads": 2}])
def test_impossible_shapes_are_refused(bad):
    with pytest.raises(ConfigError, match="shape"):
        ModelShape(**({"layers": 2, "hidden": 32, "heads": 2, "ffn": 64} | bad))
