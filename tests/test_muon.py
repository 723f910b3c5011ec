"""Muon: matrices become orthogonal, by either order of the products."""

import pytest
import torch

from hifitse.training import state as muon
from hifitse.training.state import Muon, orthogonal


@pytest.mark.parametrize("shape", [(8, 8), (5, 40), (40, 5)])
def test_orthogonal_has_singular_values_near_one_and_keeps_directions(shape):
    torch.manual_seed(0)
    u, s, v = torch.linalg.svd(torch.randn(shape), full_matrices=False)
    values = torch.linalg.svdvals(orthogonal(u @ torch.diag(s.clamp_min(0.05 * s.max())) @ v))
    assert values.min() > 0.5 and values.max() < 1.3
    assert torch.trace(u.T @ orthogonal(u @ v) @ v.T) > 0.6 * min(shape), "along the input's own directions"


def test_muon_step_has_the_size_of_its_rate_whatever_the_gradients():
    for scale in (1e-6, 1.0, 1e6):
        weight = torch.nn.Parameter(torch.zeros(32, 64))
        weight.grad = torch.randn(32, 64) * scale
        Muon([weight], lr=0.01).step()
        assert float(weight.detach().square().mean().sqrt()) == pytest.approx(0.002, rel=0.3)


@pytest.mark.parametrize(
    "values", [torch.ones(20), torch.logspace(0, -7, 20), torch.tensor([1.0, 0.5] + 18 * [0.0])], ids=["equal", "decaying", "rank two"]
)
def test_products_of_the_small_side_alone_give_the_same_matrix(values):
    torch.manual_seed(0)
    u, _, v = torch.linalg.svd(torch.randn(20, 60), full_matrices=False)
    x = u @ torch.diag(values / values.norm()) @ v
    exact = muon._step_by_step(x.double())
    assert (muon._on_small_side(x) - exact).norm() < 2e-3 * exact.norm()
    assert (muon._on_small_side(x.double()) - exact).norm() < 1e-6 * exact.norm()
    assert (orthogonal(x.T).T - exact).norm() < 5e-3 * exact.norm(), "a tall one is taken as a wide one"
