"""Test the extractor: size, identities, lengths, several enrolments, silence, conditioning, bad input; what it is for."""

import pytest
import torch

from hifitse import HifitseError
from hifitse.metrics import si_sdr
from hifitse.model import AveragedEstimates, Extractor, ExtractorConfig, kernels
from hifitse.model.bands import BandMerge, Spectrum, band_layout
from hifitse.model.gridnet import BandAttention, FullBandAttention, attend

TINY = dict(
    n_fft=1024, win_length=960, hop_length=480, bands_fine=4, bands_medium=6, bands_coarse=3, features=16, lstm_hidden=8, blocks=2, heads=2
)  # fmt: skip
FAST = TINY | dict(
    band_layer="mixer", frame_layer="conv", usef="full", reinject="full", speaker_blocks=1, speaker_features=12, magnitude_input=True,
    input_power=0.3, frame_attention=False,
)  # fmt: skip
ALL = FAST | dict(adaln=True, enroll_scales=3, enroll_levels=True)
EACH = pytest.mark.parametrize("config", [TINY, FAST, ALL], ids=["lstm", "fast", "all"])


def make(config: dict, **changes) -> Extractor:
    torch.manual_seed(0)
    return Extractor(ExtractorConfig(**config | changes)).eval()


def stir(model: Extractor) -> Extractor:
    """Randomise the layers that start as the identity, so that a test sees the conditioning."""
    for name, parameter in model.named_parameters():
        if "film" in name or "marks" in name or name.startswith("merge"):
            torch.nn.init.normal_(parameter, std=0.3)
    return model


def test_default_is_the_plans_baseline_of_11_79_million_parameters():
    model = Extractor(ExtractorConfig())
    assert 11.74e6 <= sum(p.numel() for p in model.parameters()) <= 11.84e6
    parts = {"blocks": 10.675 + 0.398, "usef": 0.066, "film": 0.033, "split": 0.311, "merge": 0.302}
    for name, millions in parts.items():
        count = sum(p.numel() for p in getattr(model, name).parameters())
        assert count / 1e6 == pytest.approx(millions, rel=0.02), name
    assert model.split.n_bands == 53 and model.spectrum.n_fft // 2 + 1 == 1025


@pytest.mark.parametrize("samples", [1, 100, 959, 960, 48_000, 48_001])
@pytest.mark.parametrize("window", [(2048, 960, 480), (2048, 1920, 960), (1024, 960, 480), (1001, 701, 250)])
def test_stft_pair_reconstructs_any_length(samples, window):
    audio = torch.randn(2, samples, dtype=torch.float64)
    spectrum = Spectrum(*window).double()
    spec = spectrum(audio)
    assert torch.allclose(spectrum.inverse(spec, samples, torch.ones_like(spec)), audio, atol=1e-12)


@pytest.mark.parametrize("together", [False, True])
@pytest.mark.parametrize("window", [(64, 48, 24), (64, 64, 16), (63, 41, 13)])
def test_masked_inverse_and_its_gradients_are_those_of_torchs_istft(window, together, monkeypatch):
    """Two spectra for three masks, item by item and all at once as on a GPU."""
    if together:
        monkeypatch.setattr("hifitse.model.kernels._together", lambda rows: [slice(0, len(rows))])
    n_fft, win_length, hop = window
    spectrum, mix_index = Spectrum(*window).double(), torch.tensor([1, 0, 1])
    spec = spectrum(torch.randn(2, 200, dtype=torch.float64))
    mask = torch.randn(3, *spec.shape[1:], dtype=torch.complex128, requires_grad=True)
    options = {"window": spectrum.window, "center": True, "length": 200}
    expected = torch.istft(spec[mix_index] * mask, n_fft, hop, win_length, **options)
    found = spectrum.inverse(spec, 200, mask, mix_index)
    torch.testing.assert_close(found, expected)
    weight = torch.randn_like(expected)
    torch.testing.assert_close(*(torch.autograd.grad(each, mask, weight) for each in (found, expected)))
    (to_spec,) = torch.autograd.grad(spectrum.inverse(spec.requires_grad_(), 200, mask, mix_index).sum(), spec)
    assert to_spec.any(), "a mixture that asks for a gradient gets one"


@pytest.mark.parametrize("n_fft", [1024, 2048, 4096])
def test_bands_cover_all_bins_overlap_and_rise(n_fft):
    bands = [band for region in band_layout(ExtractorConfig(n_fft=n_fft, win_length=480, hop_length=240)) for band in region]
    assert bands[0][0] == 0 and bands[-1][1] == n_fft // 2 + 1
    for (first, last), (next_first, next_last) in zip(bands[:-1], bands[1:], strict=True):
        assert first <= next_first < last <= next_last, "neighbours must overlap"


def test_all_one_mask_is_perfect_reconstruction_through_split_and_merge():
    merge = BandMerge(ExtractorConfig(**TINY))
    with torch.no_grad():
        for region in merge.regions:
            region.weight.zero_()  # the mask is the bias alone: 1 + 0j
    mask = merge(torch.randn(2, 13, 7, 16))
    assert torch.allclose(mask[..., 0], torch.ones(2, 513, 7)) and torch.allclose(mask[..., 1], torch.zeros(2, 513, 7))
    model = make(TINY)
    for region in model.merge.regions:
        torch.nn.init.zeros_(region.weight)
    mix = torch.randn(2, 12_345)
    assert torch.allclose(model(mix, torch.randn(2, 9_000)), mix, atol=1e-5)


EVERY = FAST | dict(frame_attention=True, adaln=True, mixture_blocks=1, reinject="band")  # every layer there is
MAGNITUDES = TINY | dict(frame_layer="conv", input_power=0.3, phase_input=False, usef="band")


@pytest.mark.parametrize("config", [TINY, FAST, EVERY, MAGNITUDES], ids=["lstm", "fast", "every", "magnitudes"])
def test_fast_paths_give_what_the_plain_formulas_give(config, monkeypatch):
    """Compare estimates and all gradients in float64: in float32, rounding may make a perceptron's unit active in one path only."""
    model = stir(make(config)).double()
    mix, enroll = torch.randn(2, 5_000).double(), torch.randn(2, 4_000).double()

    def computed() -> list[torch.Tensor]:
        model.zero_grad()
        est = model(mix, enroll)
        est.square().mean().backward()
        return [est.detach(), *(p.grad for p in model.parameters())]

    fast = computed()
    with kernels.plain():
        assert not kernels.fast()
        with kernels.plain(False):
            assert not kernels.fast(), "what is plain outside stays so inside"
        for name in ("cut", "overlap", "Inverse", "padded"):
            monkeypatch.setattr(kernels, name, None)  # none of them is needed
        plain = computed()
    assert kernels.fast()
    for one, other in zip(fast, plain, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-9 * float(1 + one.abs().max()))


@EACH
def test_several_enrolments_any_order_and_repeats_change_nothing(config):
    model = stir(make(config))
    mix, enroll = torch.randn(2, 9_600), torch.randn(2, 3, 4_800)
    with torch.inference_mode():
        est = model(mix, enroll)
        assert torch.allclose(est, model(mix, enroll[:, [2, 0, 1]]), atol=1e-4), "their order does not matter"
        single = model(mix, enroll[:, 0])
        assert torch.allclose(single, model(mix, enroll[:, :1].expand(-1, 3, -1)), atol=1e-4), "the same one thrice is one"
        assert not torch.allclose(est, single, atol=1e-3), "further ones do matter"


@EACH
def test_silence_in_gives_silence_and_gradients_stay_finite(config):
    model = stir(make(config)).train()
    for mix, enroll in ((torch.zeros(2, 5_000), torch.randn(2, 5_000)), (torch.randn(2, 5_000), torch.zeros(2, 5_000))):
        model.zero_grad()
        est = model(mix, enroll)
        if not mix.any():
            assert est.abs().max() == 0
        est.square().sum().backward()
        assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


@EACH
def test_output_follows_the_mixtures_level_and_ignores_the_enrolments(config):
    model = stir(make(config))
    mix, enroll = torch.randn(1, 9_600), torch.randn(1, 9_600)
    with torch.inference_mode():
        est = model(mix, enroll)
        assert torch.allclose(model(0.01 * mix, enroll), 0.01 * est, atol=1e-4 * float(est.abs().max()))
        assert torch.allclose(model(mix, 0.1 * enroll), est, atol=1e-3 * float(est.abs().max()))


@EACH
def test_items_of_a_batch_do_not_touch_each_other(config):
    model = stir(make(config))
    mix, enroll = torch.randn(3, 7_000), torch.randn(3, 6_000)
    with torch.inference_mode():
        assert torch.allclose(model(mix, enroll)[1:2], model(mix[1:2], enroll[1:2]), atol=1e-4)


@EACH
def test_checkpointing_gives_the_same_gradients(config):
    model = stir(make(config)).train()
    mix, enroll = torch.randn(2, 7_000), torch.randn(2, 6_000)
    grads = []
    for model.checkpointing in (False, True):
        model.zero_grad()
        model(mix, enroll).square().sum().backward()
        grads.append([p.grad.clone() for p in model.parameters()])
    assert all(torch.allclose(a, b, rtol=1e-4, atol=1e-5) for a, b in zip(*grads, strict=True))


def test_attention_against_its_definition():
    q, k, v = torch.randn(2, 5, 8), torch.randn(2, 7, 8), torch.randn(2, 7, 8)
    parts = []
    for head in range(2):
        cut = slice(4 * head, 4 * head + 4)
        parts.append(torch.softmax(q[..., cut] @ k[..., cut].transpose(1, 2) / 2.0, -1) @ v[..., cut])
    assert torch.allclose(attend(q, k, v, 2), torch.cat(parts, -1), atol=1e-5)


def test_band_attention_keeps_bands_apart_and_full_band_attention_lets_them_meet():
    z, context = torch.randn(1, 4, 5, 8), torch.randn(1, 4, 6, 8)
    changed = z.clone()
    changed[:, 0] += 1  # another query in band 0 only
    changed[:, 0, :, 0] -= 3
    for kind, meets in ((BandAttention, False), (FullBandAttention, True)):
        layer = kind(8, 2)
        others = (layer(z, context)[:, 1:] - layer(changed, context)[:, 1:]).abs().max()
        assert bool(others > 1e-6) == meets


@pytest.mark.parametrize(
    ("mix", "enroll", "named"), [((4, 100), (3, 100), "(4, 100)"), ((100,), (1, 100), "(100,)"), ((1, 100), (100,), "(100,)")]
)
def test_wrong_shapes_are_named(mix, enroll, named):
    with pytest.raises(HifitseError) as error:
        make(TINY)(torch.zeros(mix), torch.zeros(enroll))
    assert named in str(error.value) and "expected" in str(error.value)


def test_late_fusion_is_the_mean_of_the_single_extractions():
    model, mix, enroll = stir(make(FAST)), torch.randn(2, 4800), torch.randn(2, 3, 2400)
    late = AveragedEstimates(model)
    with torch.no_grad():
        singles = torch.stack([model(mix, enroll[:, number]) for number in range(3)])
        torch.testing.assert_close(late(mix, enroll), singles.mean(0))
        torch.testing.assert_close(late(mix, enroll[:, [2, 0, 1]]), late(mix, enroll), atol=1e-6, rtol=1e-6)  # in any order
        torch.testing.assert_close(late(mix, enroll[:, :1]), model(mix, enroll[:, :1]))  # a single enrolment leaves nothing to fuse
        assert not torch.allclose(late(mix, enroll), model(mix, enroll), atol=1e-5)  # early fusion gives something else


def test_shifted_estimates_are_averaged_in_use_and_not_in_training():
    plain, both = (stir(make(FAST, shifts=shifts)) for shifts in (1, 2))
    both.load_state_dict(plain.state_dict())
    mix, enroll, later = torch.randn(2, 4801), torch.randn(2, 1, 2400), FAST["hop_length"] // 2
    with torch.no_grad():
        shifted = plain(torch.nn.functional.pad(mix, (later, 0)), enroll)[:, later:]
        torch.testing.assert_close(both(mix, enroll), (plain(mix, enroll) + shifted) / 2)
        torch.testing.assert_close(both.train()(mix, enroll), plain(mix, enroll))
        speaker = both.eval().encode(enroll[:1])
        channels = both.extract_speaker(mix[:1], speaker, channels=torch.stack([mix[0], -mix[0]]))
        torch.testing.assert_close(channels, torch.stack([both(mix[:1], enroll[:1])[0], -both(mix[:1], enroll[:1])[0]]))


def voices(items: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return noises of 0.2 s below and above 3 kHz, (B, T) each."""
    hertz = torch.fft.rfftfreq(9_600, 1 / 48_000)
    spectra = torch.fft.rfft(torch.randn(2, items, 9_600))
    low, high = (torch.fft.irfft(spectrum * band) for spectrum, band in zip(spectra, (hertz < 3_000, hertz >= 3_000), strict=True))
    return low / low.std(), high / high.std()


@pytest.mark.parametrize("config", [TINY, FAST], ids=["lstm", "fast"])
def test_after_seconds_of_training_on_two_kinds_of_noise_the_enrolment_decides_which_comes_out(config):
    model = make(config, bands_fine=2, bands_coarse=2, lstm_hidden=16, blocks=1).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(40):
        low, high = voices(4)
        target, enroll = torch.cat([low, high]), torch.cat(voices(4))
        loss = -si_sdr(model((low + high).repeat(2, 1), enroll), target).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.eval()
    low, high = voices(4)
    with torch.inference_mode():
        ests = [model(low + high, enroll) for enroll in voices(4)]
    for est, asked, other in ((ests[0], low, high), (ests[1], high, low)):
        assert si_sdr(est, asked).min() > 6, "who is asked for comes out, from 0 dB"
        assert si_sdr(est, other).max() < -6, "and the other does not"
