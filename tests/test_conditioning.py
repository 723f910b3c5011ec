"""Test conditioning: AdaLN, enrolments at several scales and levels, shared items of a batch, blocks that see only the mixture."""

import pytest
import torch
from sounds import small
from test_model import FAST, TINY, make, stir
from torch.nn.functional import layer_norm

from hifitse.data.dataset import training_loader
from hifitse.data.mixing import Mixer
from hifitse.model.gridnet import AdaptiveNorm, Resolutions

LSTM = TINY | dict(speaker_blocks=1, speaker_features=12, reinject="full")
BOTH = pytest.mark.parametrize("config", [LSTM, FAST], ids=["lstm", "fast"])
SMALL = FAST | dict(reinject="none", magnitude_input=False)


@BOTH
def test_adaln_starts_as_the_baseline_bit_for_bit(config):
    base, adaptive = make(config), make(config, adaln=True)
    others = base.state_dict()
    assert all(torch.equal(adaptive.state_dict()[name], value) for name, value in others.items()), "the same start with the same seed"
    mix, enroll = torch.randn(2, 7_000), torch.randn(2, 6_000)
    for name, parameter in base.named_parameters():
        if name.startswith("merge"):
            torch.nn.init.normal_(parameter, std=0.3)
    adaptive.load_state_dict(base.state_dict(), strict=False)
    with torch.no_grad():
        assert torch.equal(adaptive(mix, enroll), base(mix, enroll))


def test_adaptive_norm_against_its_formula_for_rows_of_several_items():
    norm = AdaptiveNorm(6, speaker=5)
    for parameter in norm.parameters():
        torch.nn.init.normal_(parameter)
    x, emb = torch.randn(3 * 4, 7, 6), torch.randn(3, 5)
    scale, shift = (emb @ norm.film.linear.weight.T + norm.film.linear.bias).chunk(2, -1)
    for item in range(3):
        rows = slice(4 * item, 4 * item + 4)
        expected = layer_norm(x[rows], (6,), norm.weight, norm.bias) * (1 + scale[item]) + shift[item]
        torch.testing.assert_close(norm(x, emb)[rows], expected)


@BOTH
def test_the_gradient_of_adaln_reaches_the_embedding_and_what_makes_it(config):
    model = stir(make(config, adaln=True)).train()
    for block in model.blocks:
        torch.nn.init.zeros_(block.film.linear.weight)  # block the path through FiLM
    mix = torch.randn(2, 5_000)
    speaker = model.encode(torch.randn(2, 5_000))
    speaker.embedding.retain_grad()
    model.extract_speaker(mix, speaker._replace(frames=speaker.frames.detach(), context=speaker.context.detach())).square().sum().backward()
    assert speaker.embedding.grad.abs().max() > 0
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in model.pooling.embed.parameters())


def test_resolutions_are_means_over_4_and_16_frames_one_after_the_other():
    layer = Resolutions(3, levels=2, scales=3)
    torch.nn.init.normal_(layer.marks)
    levels = torch.randn(2, 1, 5, 32, 3)
    parts = [
        z.unflatten(2, (-1, size)).mean(3) + layer.marks[3 * level + place]
        for level, z in enumerate(levels)
        for place, size in enumerate((1, 4, 16))
    ]
    torch.testing.assert_close(layer(list(levels)), torch.cat(parts, 2))


@BOTH
def test_recordings_of_different_lengths_equal_one_encoding_where_lengths_are_equal(config):
    model = stir(make(config, enroll_scales=3, enroll_levels=True))
    enroll = torch.randn(1, 3, 4_900)
    with torch.inference_mode():
        together, each = model.encode(enroll), model.encode_each(list(enroll[0]))
        for one, other in zip(together, each, strict=True):
            torch.testing.assert_close(one, other, atol=1e-5, rtol=0)
        est = model.extract_speaker(torch.randn(1, 5_000), model.encode_each([torch.randn(1), torch.randn(9_000)]))
    assert est.isfinite().all()


@pytest.mark.parametrize(
    "changes", [{}, {"mixture_blocks": 1}, {"adaln": True}, {"usef": "band", "reinject": "full"}, {"enroll_scales": 2}], ids=str
)
def test_what_is_shared_is_encoded_once_with_the_same_estimates_and_gradients(sources, changes):
    params = small(sources, seconds=0.5, enroll_seconds=0.5, both_talkers=True, interferers_max=[1], batch_size=6)
    batch = next(iter(training_loader(params, Mixer(params, "train"), 6, 6)))
    shared = batch["shared"]
    assert (len(shared.unique_mix), len(shared.unique_enroll)) == (3, 6)
    batch["enroll"] = batch["enroll"][[0, 1, 0, 3, 4, 3]]  # two voices are asked for twice
    shared = shared._replace(unique_enroll=torch.tensor([0, 1, 3, 4]), enroll_index=torch.tensor([0, 1, 0, 2, 3, 2]))
    model = make(SMALL, **changes)
    for parameter in model.parameters():  # the mask of a fresh model is 1 for any input
        torch.nn.init.normal_(parameter, std=0.1)
    ests, grads = [], []
    for given in (None, shared):
        model.zero_grad()
        est = model(batch["mix"], batch["enroll"], shared=given)
        (est - batch["target"]).square().mean().backward()
        ests.append(est.detach())
        grads.append(torch.cat([parameter.grad.flatten() for parameter in model.parameters() if parameter.grad is not None]))
    assert (ests[0] - batch["mix"]).abs().max() > 1e-3
    torch.testing.assert_close(ests[1], ests[0], rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(grads[1], grads[0], rtol=1e-3, atol=1e-7)


def test_the_first_blocks_see_the_mixture_alone():
    model = make(SMALL, mixture_blocks=1)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    seen = []
    model.blocks[0].register_forward_hook(lambda module, given, out: seen.append(out.detach()))
    mix = torch.randn(1, 9600) * 0.1
    with torch.no_grad():
        ests = [model(mix, torch.randn(1, 9600) * 0.1) for _ in range(2)]
    assert torch.equal(*seen) and not torch.allclose(*ests)


def test_without_phases_the_network_hears_magnitudes_alone():
    model = make(SMALL, phase_input=False, input_power=0.3)
    spec = model.spectrum(torch.randn(1, 4800) * 0.1)
    turned = spec * torch.exp(torch.tensor(1.3j))
    torch.testing.assert_close(model.split(turned), model.split(spec), rtol=1e-4, atol=1e-4)
