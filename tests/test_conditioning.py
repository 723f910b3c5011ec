"""Conditioning: AdaLN, the enrolment at several scales and levels, the share of parameters that exist for the enrolment."""

import pytest
import torch
from test_model import make, stir
from torch.nn.functional import layer_norm

from hifitse import HifitseError
from hifitse.model import ExtractorConfig
from hifitse.model.gridnet import AdaptiveNorm, Resolutions

TINY = dict(
    n_fft=1024, win_length=960, hop_length=480, bands_fine=4, bands_medium=6, bands_coarse=3, features=16, lstm_hidden=8, blocks=2, heads=2,
    speaker_blocks=1, speaker_features=12, reinject="full",
)  # fmt: skip
FAST = TINY | dict(band_layer="mixer", frame_layer="conv", usef="full", frame_attention=False)
BOTH = pytest.mark.parametrize("config", [TINY, FAST], ids=["lstm", "fast"])
SEVERAL = dict(enroll_scales=3, enroll_levels=True)


# ---- AdaLN


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
        torch.nn.init.zeros_(block.film.linear.weight)  # the way through FiLM is closed
    mix = torch.randn(2, 5_000)
    speaker = model.encode(torch.randn(2, 5_000))
    speaker.embedding.retain_grad()
    model.extract_speaker(mix, speaker._replace(frames=speaker.frames.detach(), context=speaker.context.detach())).square().sum().backward()
    assert speaker.embedding.grad.abs().max() > 0
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in model.pooling.embed.parameters())


# ---- several scales and levels


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
    model = stir(make(config, **SEVERAL))
    enroll = torch.randn(1, 3, 4_900)
    with torch.inference_mode():
        together, each = model.encode(enroll), model.encode_each(list(enroll[0]))
        for one, other in zip(together, each, strict=True):
            torch.testing.assert_close(one, other, atol=1e-5, rtol=0)
        est = model.extract_speaker(torch.randn(1, 5_000), model.encode_each([torch.randn(1), torch.randn(9_000)]))
    assert est.isfinite().all()


# ---- what is refused


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"speaker_blocks": 0, "adaln": True}, ["adaln is True", "expected False where speaker_blocks is 0"]),
        ({"speaker_blocks": 0, "enroll_levels": True}, ["enroll_levels is True", "expected False where speaker_blocks is 0"]),
        ({"usef": "none", "reinject": "none", "enroll_scales": 3}, ["enroll_scales is 3", "expected 1 where usef and reinject are 'none'"]),
        ({"usef": "none", "reinject": "none", "enroll_levels": True}, ["enroll_levels is True", "where usef and reinject are 'none'"]),
        ({"enroll_scales": 5}, ["'enroll_scales' is 5", "from 1 up to 4"]),
    ],
)
def test_what_would_do_nothing_is_refused_in_one_sentence(changes, words):
    with pytest.raises(HifitseError) as error:
        ExtractorConfig(**TINY | changes)
    assert all(word in str(error.value) for word in words) and "\n" not in str(error.value)
