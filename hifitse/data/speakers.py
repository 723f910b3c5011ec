"""Synthetic speakers: their voices, their sentences, and the conversion to 48 kHz speech.

A speaker has a voice variant of espeak-ng, an accent, a pitch, a speaking rate, a vocal-tract length (by resampling) and a
fixed, gentle spectral colour. The output of espeak-ng ends at 11 kHz. Above that, noise is added that follows the envelope
of the band below, like breath noise and sibilants in full-band recordings.
"""

import json
import subprocess
import sys
from dataclasses import dataclass

import numpy as np

from hifitse import SAMPLE_RATE, HifitseError, audio
from hifitse.data import voices

# Voice variants of espeak-ng with a natural pitch below and above 150 Hz, without those that measure as mostly unvoiced or robotic
# (whisper, croak, klatt, robosoft ...), exact duplicates, and those of the babble noise, which no speaker has.
LOW_VARIANTS = """
    Andy AnxiousAndy Gene Gene2 Henrique Hugo Jacky Lee Marco Mario Michael Mike Reed RicishayMax RicishayMax2
    Tweaky adam announcer antonio benjamin boris david ed edward edward2 fast gustave iven iven2 iven3 iven4 john
    kaukovalta m1 m2 m3 m4 m5 m6 m7 m8 marcelo max michel miguel mike2 pablo paul pedro rob sandro victor
""".split()
HIGH_VARIANTS = "Alicia Andrea Nguyen anika belinda f1 f2 f3 f4 f5 shelby steph steph2".split()
BABBLE_VARIANTS = "Alex Annie Denis Diogo aunty grandma linda quincy robert travis".split()
ENGLISH = "en-us en-gb-x-rp en-gb-scotland en-gb-x-gbclan en-gb-x-gbcwmd en-029 en-us-nyc".split()
OTHER = "de es es-419 it pt pt-br nl sv nb da fi hu pl ro hr tr id sw et lv lt ca eu cy la sq af is".split()
NAMES, VERBS, THINGS, PLACES = (line.strip().split("|") for line in """
    Anna|Peter|Maria|the teacher|my neighbour|the old captain|a young doctor|the baker|her brother|nobody|everyone|the guide
    carried|remembered|borrowed|painted|followed|noticed|repaired|measured|described|promised|avoided|collected|finished
    a wooden box|the yellow bicycle|three silver keys|the broken window|an unusual picture|some fresh bread|the heavy machine|\
a small garden|several long letters|the quiet song|two hundred stones|the kitchen table|a thick rope|the evening paper
    near the harbour,|before breakfast,|behind the church,|in early spring,|across the valley,|after the storm,|on a cold morning,|\
for no reason,|while it was raining,|without any help,|just below the bridge,|when the music stopped,|once again,
""".strip().splitlines())
LINKS = "and but because so although".split()
ONSETS = "b br d dr f fl g gr k kl l m n p pr r s sk st t tr v".split() + [""]
NUCLEI = "a e i o u a e i o ai au".split()
CODAS = ["", "", "", *"n l r s t m st".split()]


@dataclass(frozen=True)
class Speaker:
    """Properties of a synthetic voice: a pure function of the corpus seed and the speaker's index."""

    name: str
    variant: str
    accent: str
    rate: int  # words per minute requested from espeak-ng, before the resampling
    pitch: int  # 0 to 100: 0.66 to 1.68 times the variant's natural pitch
    range: int  # 0 to 100: liveliness of the intonation
    tract: float  # factor on formants and pitch: 1.1 stands for a vocal tract shorter by a tenth
    tilt_db: float  # dB per octave around 1 kHz, at most +-1.5
    colour: tuple[tuple[float, float], ...]  # two broad resonances: centre in Hz, gain in dB
    breath_db: float  # level of the band above 11 kHz relative to what the band below suggests


def variant_group(variant: str) -> str:
    """Return the family of a variant, so that near duplicates (steph, steph2) are never on two sides of a split."""
    return variant if variant[0] in "mf" and len(variant) == 2 else variant.rstrip("0123456789").lower()


def speaker(seed: int, index: int) -> Speaker:
    """Return speaker ``index`` of the endless list that ``seed`` defines."""
    cycle = LOW_VARIANTS + HIGH_VARIANTS * 3  # there are many low variants: otherwise few voices would be high
    lap, place = divmod(index, len(cycle))
    variant = cycle[np.random.default_rng([seed, lap, 1]).permutation(len(cycle))[place]]
    rng = np.random.default_rng([seed, index, 2])
    # Irrational steps spread pitch and tract evenly over any number of speakers; random draws would cluster.
    offset = np.random.default_rng([seed, 3]).random(2)
    spread_pitch, spread_tract = (offset + index * np.array([0.7548776662, 0.5698402910])) % 1
    tract = round(0.85 + 0.33 * spread_tract, 2)
    return Speaker(
        name=f"synthetic_{index:04d}",
        variant=variant,
        accent=str(rng.choice(ENGLISH if rng.random() < 0.5 else OTHER)),
        rate=round(rng.uniform(140, 200) / tract),
        pitch=round(10 + (55 if variant in HIGH_VARIANTS else 85) * spread_pitch),
        range=int(rng.integers(30, 80)),
        tract=tract,
        tilt_db=round(rng.uniform(-1.5, 1.5), 2),
        colour=tuple((round(float(rng.uniform(*octaves)), 0), round(rng.uniform(-4, 4), 2)) for octaves in ((400, 1600), (1800, 6000))),
        breath_db=round(rng.uniform(-5, 5), 2),
    )


def words(rng: np.random.Generator, english: bool) -> list[str]:
    """Draw words for at least some 15 s: English clauses, or nonsense words and numbers, which espeak-ng speaks with an accent's sounds."""
    text: list[str] = []
    while len(text) < 50:
        if english:
            clause = [rng.choice(NAMES), rng.choice(VERBS), rng.choice(THINGS), rng.choice(PLACES), rng.choice(LINKS)]
            text += " ".join(clause).split()
        elif rng.random() < 0.3:
            text.append(str(rng.integers(11, 100)))
        else:
            syllables = rng.integers(1, 4)
            text.append("".join(rng.choice(part) for _ in range(syllables) for part in (ONSETS, NUCLEI)) + rng.choice(CODAS))
            text[-1] += "," if rng.random() < 0.15 else ""
    return text


def speak(who: Speaker, texts: list[list[str]], seed: int, seconds: tuple[float, float] = (4.1, 5.8)) -> list[np.ndarray]:
    """Synthesise a speaker's utterances, each ``(T,)`` at 48 kHz and -26 dBFS, ``seconds`` (shortest, longest) long before trimming."""
    try:
        import espeakng_loader
    except ImportError:
        advice = "pip install espeakng-loader, or name recordings with the parameter 'corpus'"
        raise HifitseError(f"the package 'espeakng-loader' is not installed, the synthetic corpus needs it: {advice}") from None
    request = {
        "library": espeakng_loader.get_library_path(), "data": espeakng_loader.get_data_path(), "voice": f"{who.accent}+{who.variant}",
        "rate": who.rate, "pitch": who.pitch, "range": who.range, "seed": seed, "texts": texts,
        "seconds": [second * who.tract for second in seconds],
    }  # fmt: skip
    command = [sys.executable, "-I", "-S", voices.__file__]  # isolated: only the standard library, which starts fast
    done = subprocess.run(command, input=json.dumps(request).encode(), capture_output=True)
    if done.returncode:
        raise HifitseError(f"espeak-ng ended with status {done.returncode} on the voice {request['voice']!r}, expected 0")
    speeches, rest = [], done.stdout
    for number in range(len(texts)):
        length = 2 * int.from_bytes(rest[:4], "little")
        raw = np.frombuffer(rest[4 : 4 + length], "<i2").astype(np.float32) / 32768
        rest = rest[4 + length :]
        speech = audio.resample(raw, voices.SPEECH_RATE * who.tract, SAMPLE_RATE)
        speech = audio.set_level(trim(_extend(speech, who, np.random.default_rng([seed, number]))), -26)
        speeches.append(speech * np.float32(min(1.0, 0.89 / np.abs(speech).max())))
    return speeches


def _extend(speech: np.ndarray, who: Speaker, rng: np.random.Generator) -> np.ndarray:
    """Colour the speech, and above espeak-ng's 11 kHz add noise that follows the level of the band below and falls by 2 dB per kHz.

    Half of an utterance's deviation from the usual balance is compensated; otherwise dull variants would have no upper band."""
    window_length, hop = 256, 128
    window = np.sin(np.pi * (np.arange(window_length) + 0.5) / window_length).astype(np.float32)  # squares add up to 1 at half overlap
    padded = np.pad(speech, (hop, window_length + -len(speech) % hop))
    frames = np.lib.stride_tricks.sliding_window_view(padded, window_length)[::hop] * window  # (L, T)
    spectrum = np.fft.rfft(frames).astype(np.complex64)  # (L, F)
    hertz = np.fft.rfftfreq(window_length, 1 / SAMPLE_RATE)

    edge = 0.93 * voices.SPEECH_RATE / 2 * who.tract  # Hz: espeak-ng's band ends here after the resampling
    below = (hertz > 0.55 * edge) & (hertz < 0.95 * edge)
    envelope = np.sqrt((np.abs(spectrum[:, below]) ** 2).mean(axis=1, keepdims=True))  # (L, 1)
    balance_db = 10 * np.log10((np.abs(spectrum[:, below]) ** 2).sum() / (np.abs(spectrum) ** 2).sum())
    above = hertz > edge - 1000
    fall_db = 4 - 0.5 * (balance_db + 25) + who.breath_db - 2.0 * (hertz[above] - edge) / 1000
    shape = 10 ** (fall_db / 20) / (1 + np.exp((edge - hertz[above]) / 250))  # smooth start at the edge
    noise = rng.standard_normal((len(spectrum), 2 * len(shape)), dtype=np.float32).view(np.complex64) * np.float32(0.5**0.5)
    spectrum[:, above] += noise * (envelope * shape).astype(np.float32)

    octaves = np.log2(np.maximum(hertz, 100) / 1000)
    colour_db = who.tilt_db * np.clip(octaves, -3, 3)
    for centre, gain in who.colour:
        colour_db = colour_db + gain * np.exp(-(((octaves - np.log2(centre / 1000)) / 0.6) ** 2))
    spectrum *= (10 ** (colour_db / 20)).astype(np.float32)
    frames = np.fft.irfft(spectrum, window_length).astype(np.float32) * window
    halves = frames.reshape(len(frames), 2, hop)
    return (halves[1:, 0] + halves[:-1, 1]).reshape(-1)[: len(speech)]


def trim(speech: np.ndarray) -> np.ndarray:
    """Cut silence (frames 40 dB below the loudest) from both ends except for 40 ms, and fade the ends over 5 ms."""
    frame, keep = 480, 1920
    levels = np.square(speech[: len(speech) // frame * frame].reshape(-1, frame)).mean(axis=1)
    loud = np.flatnonzero(levels > 1e-4 * levels.max())
    cut = speech[max(0, loud[0] * frame - keep) : (loud[-1] + 1) * frame + keep].copy()
    fade = np.linspace(0, 1, 240, dtype=np.float32)
    cut[:240] *= fade
    cut[-240:] *= fade[::-1]
    return cut
