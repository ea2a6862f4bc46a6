import numpy as np
import pytest

from flp_ray.fit import network
from flp_ray.fit.network import Networks, initial_networks, loss_and_gradient, train_networks


def problem(networks=4, points=30, inputs=5, dtype=np.float64, seed=0):
    generator = np.random.default_rng(seed)
    x = generator.standard_normal((points, inputs))
    y = generator.standard_normal((networks, points)) + x[:, 0]
    weights = generator.integers(0, 4, (networks, points)).astype(float)
    return initial_networks([[seed, i] for i in range(networks)], inputs, dtype), x, y, weights


def test_the_loss_is_the_weighted_mean_squared_error():
    start, x, y, weights = problem()
    loss, _ = loss_and_gradient(start, x, y, weights)
    error = (start.predict(x) - y) ** 2
    assert loss == pytest.approx((weights * error).sum(axis=1) / weights.sum(axis=1), rel=1e-12)


@pytest.mark.parametrize("name", ["hidden", "output_weight", "output_bias"])
def test_the_gradient_agrees_with_finite_differences(name):
    start, x, y, weights = problem()
    _, gradient = loss_and_gradient(start, x, y, weights)
    array = getattr(start, name)
    step = 1e-6
    numeric = np.empty_like(array)
    for index in np.ndindex(array.shape):
        ends = []
        for sign in (1, -1):
            moved = array.copy()
            moved[index] += sign * step
            fields = {n: getattr(start, n) for n in ("hidden", "output_weight", "output_bias")} | {name: moved}
            ends.append(loss_and_gradient(Networks(**fields), x, y, weights)[0][index[0]])
        numeric[index] = (ends[0] - ends[1]) / (2 * step)
    # Central differences in float64: truncation 1e-12, rounding 1e-10.
    assert getattr(gradient, name) == pytest.approx(numeric, abs=1e-8)


@pytest.mark.parametrize("steps", [1, 300])
def test_one_member_is_trained_as_by_torch_adam(steps):
    torch = pytest.importorskip("torch")
    start, x, y, weights = problem(networks=3)
    trained, losses = train_networks(start, x, y, weights, steps=steps)
    member = 1
    first = torch.nn.Linear(5, 3, dtype=torch.float64)
    second = torch.nn.Linear(3, 1, dtype=torch.float64)
    with torch.no_grad():
        first.weight.copy_(torch.tensor(start.hidden[member, :, :-1]))
        first.bias.copy_(torch.tensor(start.hidden[member, :, -1]))
        second.weight.copy_(torch.tensor(start.output_weight[member])[None])
        second.bias.copy_(torch.tensor(start.output_bias[member])[None])
    parameters = [*first.parameters(), *second.parameters()]
    optimiser = torch.optim.Adam(parameters, lr=0.05, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda done: 1 - done / steps)
    share = torch.tensor(weights[member] / weights[member].sum())

    def loss():
        output = second(torch.relu(first(torch.tensor(x))))[:, 0]
        return (share * (output - torch.tensor(y[member])) ** 2).sum()

    for _ in range(steps):
        optimiser.zero_grad()
        loss().backward()
        optimiser.step()
        schedule.step()
    # The same arithmetic in another order of summation: rounding grows over 300 steps, far below this.
    assert trained.hidden[member, :, :-1] == pytest.approx(first.weight.detach().numpy(), abs=1e-7)
    assert trained.hidden[member, :, -1] == pytest.approx(first.bias.detach().numpy(), abs=1e-7)
    assert trained.output_weight[member] == pytest.approx(second.weight.detach().numpy()[0], abs=1e-7)
    assert losses[member] == pytest.approx(loss().item(), abs=1e-7)


def test_blocks_change_no_network(monkeypatch):
    start, x, y, weights = problem(networks=7)
    together, _ = train_networks(start, x, y, weights, steps=50)
    monkeypatch.setattr(network, "BLOCK_VALUES", 2 * 3 * len(x))
    apart, _ = train_networks(start, x, y, weights, steps=50)
    assert apart.hidden == pytest.approx(together.hidden, abs=1e-9)


def test_points_of_weight_zero_are_not_seen():
    start, x, y, weights = problem()
    unseen = y + np.where(weights == 0, 1e3, 0)
    assert (
        train_networks(start, x, y, weights, steps=20)[1] == train_networks(start, x, unseen, weights, steps=20)[1]
    ).all()


def test_a_start_depends_on_its_own_seed_alone():
    both = initial_networks([[0, 1], [0, 2]], 5)
    alone = initial_networks([[0, 2]], 5)
    assert (both.hidden[1] == alone.hidden[0]).all()
    assert np.abs(both.hidden).max() <= 1 / np.sqrt(5)


def test_float32_learns_a_bend():
    x = np.linspace(-2, 2, 60)[:, None]
    y = np.maximum(x[:, 0], 0)[None].repeat(16, axis=0)
    start = initial_networks([[i] for i in range(16)], 1)
    _, losses = train_networks(start, x, y, np.ones_like(y), steps=2000)
    # Weight decay keeps the error above 0; a straight line's would be 0.03 here.
    assert np.median(losses) < 0.005
