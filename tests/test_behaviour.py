"""Test what an extractor is for: after seconds of training on two kinds of noise, the enrolment decides which one comes out."""

import pytest
import torch

from hifitse.metrics import si_sdr
from hifitse.model import Extractor, ExtractorConfig

SAMPLES = 9_600
SMALL = {"n_fft": 1024, "win_length": 960, "hop_length": 480, "bands_fine": 2, "bands_medium": 6, "bands_coarse": 2}
SMALL |= {"features": 16, "lstm_hidden": 16, "blocks": 1, "heads": 2}
FAST = {"band_layer": "mixer", "frame_layer": "conv", "frame_attention": False, "usef": "full", "speaker_blocks": 1, "speaker_features": 16}


def voices(items: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return noises below and above 3 kHz, (B, T) each."""
    hertz = torch.fft.rfftfreq(SAMPLES, 1 / 48_000)
    spectra = torch.fft.rfft(torch.randn(2, items, SAMPLES))
    low, high = (torch.fft.irfft(spectrum * band) for spectrum, band in zip(spectra, (hertz < 3_000, hertz >= 3_000), strict=True))
    return low / low.std(), high / high.std()


@pytest.mark.parametrize("changes", [{}, FAST], ids=["lstm", "fast"])
def test_the_output_follows_the_enrolment_when_it_is_swapped(changes):
    torch.manual_seed(0)
    model = Extractor(ExtractorConfig(**SMALL | changes))
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
