"""Parameters of the extractor and of the mixtures, and one-sentence errors for refused values."""

import difflib
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator, model_validator

from hifitse.presets import ParameterError, short

PHASED = {
    "absent_prob": (0, 1), "noisy_enroll_prob": (0, 1), "similarity": (0, 1), "interferers_min": (0, 8),
    "interferers_max": (0, 8), "snr_min_db": (-40, 60), "snr_max_db": (-40, 60),
}  # fmt: skip
"""Curriculum parameters, which have one value per phase, with the lowest and highest allowed value."""


def allowed(field: Any) -> str:
    """Describe the type and range of a parameter."""
    kind = field.annotation
    if get_origin(kind) is Literal:
        return "one of " + ", ".join(map(repr, get_args(kind)))
    words = {int: "a whole number", float: "a number", bool: "true or false", str: "text, not empty" if field.default else "text"}
    words |= {list[int]: "a list of whole numbers", list[float]: "a list of numbers", list[str]: "a list of texts"}
    bounds = {name: getattr(rule, name) for rule in field.metadata for name in ("ge", "gt", "le", "lt") if hasattr(rule, name)}
    phrases = {"ge": "from", "gt": "above", "le": "up to", "lt": "up to but not"}
    return " ".join([words[kind], *(f"{phrases[name]} {bound}" for name, bound in bounds.items())])


def sentence(error: ValidationError, model: type[BaseModel]) -> str:
    """Turn the first error of pydantic into one sentence with the name, the value and what was expected."""
    first = error.errors()[0]
    if not first["loc"]:
        return str(first["ctx"]["error"])
    name = str(first["loc"][0])
    value = short(first["input"])
    if first["type"] == "extra_forbidden":
        close = difflib.get_close_matches(name.lower(), model.model_fields, n=1)
        hint = f"did you mean {close[0]!r}?" if close else "expected one of those that `hifitse params` lists"
        given = f" (value {value})" if first["input"] != "" else ""
        return f"unknown parameter {short(name)}{given}: {hint}"
    field = model.model_fields[name]
    return f"parameter {name!r} is {value}, expected {allowed(field)} ({field.description})"


class ExtractorConfig(BaseModel):
    """Architecture of the extractor. The defaults are the 11.79 M baseline of the plan."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=(), allow_inf_nan=False)

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise ParameterError(sentence(error, type(self))) from None

    n_fft: int = Field(2048, ge=64, le=16384, description="samples: FFT size")
    win_length: int = Field(960, ge=32, le=16384, description="samples: length of the analysis window, at most n_fft")
    hop_length: int = Field(480, ge=16, le=8192, description="samples: hop between frames, at most half of win_length")
    bands_fine: int = Field(10, ge=1, le=64, description="number of bands from 0 to 1 kHz")
    bands_medium: int = Field(28, ge=1, le=128, description="number of bands from 1 to 8 kHz")
    bands_coarse: int = Field(15, ge=1, le=128, description="number of bands from 8 to 24 kHz")
    band_overlap: float = Field(0.05, ge=0.0, le=0.5, description="share of its width by which a band extends into each neighbour")
    features: int = Field(128, ge=8, le=1024, description="features D per band and frame")
    blocks: int = Field(6, ge=1, le=32, description="number of GridNet blocks")
    lstm_hidden: int = Field(256, ge=8, le=2048, description="hidden units H per LSTM direction; conv has H, mixer 4 H")
    heads: int = Field(4, ge=1, le=32, description="attention heads; must divide features")
    band_layer: Literal["lstm", "mixer"] = Field("lstm", description="layer across the bands of a frame: LSTM, or MLP over all bands")
    frame_layer: Literal["lstm", "conv"] = Field("lstm", description="layer along the frames of each band: LSTM or gated convolution")
    frame_attention: bool = Field(True, description="self-attention along the frames of each band in every block")
    usef: Literal["none", "band", "full"] = Field("band", description="first cross-attention to the enrolment: per band or full-band")
    reinject: Literal["none", "band", "full"] = Field("band", description="cross-attention to the enrolment again in every block")
    input_power: float = Field(1.0, gt=0, le=1, description="exponent on the input magnitudes of the network; 1: no compression")
    magnitude_input: bool = Field(False, description="add the log magnitude of each bin to the network's input")
    phase_input: bool = Field(True, description="input real and imaginary part of each bin; if false, only its magnitude")
    mixture_blocks: int = Field(0, ge=0, le=31, description="number of initial blocks that see only the mixture")
    speaker_blocks: int = Field(0, ge=0, le=16, description="blocks over the enrolment, pooled to one embedding; 0: mean per band only")
    speaker_features: int = Field(128, ge=8, le=1024, description="size of the pooled speaker embedding")
    verifier: bool = Field(False, description="add the embedding of a pretrained speaker verifier to the pooled one; needs speaker_blocks")
    adaln: bool = Field(False, description="AdaLN: scale and shift the output of all norms in the blocks with the pooled embedding")
    enroll_scales: int = Field(1, ge=1, le=4, description="number of enrolment resolutions in cross-attention: 1, 4, 16, 64 frames")
    enroll_levels: bool = Field(False, description="cross-attention also sees the enrolment before each speaker block")
    shifts: int = Field(1, ge=1, le=8, description="shifted estimates averaged at inference, hop_length / shifts apart; training uses one")

    @field_validator("*", mode="before")
    @classmethod
    def _plain(cls, value: Any, info: ValidationInfo) -> Any:
        """Turn a single number into a list where a list is expected; refuse booleans where a number is expected."""
        kind = cls.model_fields[info.field_name].annotation
        if get_origin(kind) is list and isinstance(value, int | float):
            value = [value]
        values = value if isinstance(value, list) else [value]
        if kind in (int, float, list[int], list[float]) and any(isinstance(v, bool) for v in values):
            raise ValueError("a number is needed")
        return value

    @model_validator(mode="after")
    def _consistent(self) -> "ExtractorConfig":
        self._refuse(
            (self.win_length > self.n_fft, "win_length", f"at most n_fft = {self.n_fft}"),
            (self.hop_length * 2 > self.win_length, "hop_length", f"at most half of win_length = {self.win_length}"),
            (self.mixture_blocks >= self.blocks, "mixture_blocks", f"fewer than blocks = {self.blocks}"),
            (self.features % self.heads, "heads", f"a divisor of features = {self.features}"),
            *((not self.speaker_blocks and getattr(self, name), name, "False where speaker_blocks is 0")
              for name in ("adaln", "enroll_levels", "verifier")),
            *((self.usef == self.reinject == "none" and getattr(self, name) != unused, name, f"{unused} where usef and reinject are 'none'")
              for name, unused in (("enroll_levels", False), ("enroll_scales", 1))),
        )  # fmt: skip
        return self

    def _refuse(self, *rules: tuple[Any, str, str]) -> None:
        """Raise ValueError for the first broken rule; a rule is (wrong, name, what is expected)."""
        for wrong, name, expected in rules:
            if wrong:
                raise ValueError(f"{name} is {getattr(self, name)}, expected {expected}")


class Data(ExtractorConfig):
    """Parameters of the mixtures, in training and evaluation alike."""

    # ---- sources of sound: "synthetic", folders or manifests, separated by commas; environment variables are expanded
    corpus: str = Field("synthetic", min_length=1, description="speech: synthetic, a folder of speaker/utterance files or a JSONL manifest")
    noise: str = Field("synthetic", min_length=1, description="noise: synthetic, a folder of recordings, or a JSONL manifest")
    rooms: str = Field("synthetic", min_length=1, description="room responses: synthetic, a folder of recordings, or a JSONL manifest")
    corpus_seed: int = Field(0, ge=0, le=2**31 - 1, description="seed of the synthetic sources and of the train/valid/test split")
    train_only: str = Field("", description="speakers that are never held out: prefixes of their names, separated by commas")
    synthetic_speakers: int = Field(200, ge=6, le=2000, description="number of speakers in the synthetic corpus")
    synthetic_utterances: int = Field(8, ge=2, le=200, description="utterances per synthetic speaker")
    synthetic_noises: int = Field(80, ge=18, le=2000, description="number of synthetic noise clips, 10 s each")
    synthetic_rooms: int = Field(60, ge=6, le=2000, description="number of synthetic rooms, with 4 responses each")
    synthetic_t60_s: float = Field(0.9, ge=0.3, le=4, description="s: longest T60 of synthetic rooms; above 0.9, rooms are larger")
    valid_share: float = Field(0.1, gt=0, lt=0.5, description="share of speakers, rooms and noises held out for validation")
    test_share: float = Field(0.2, gt=0, lt=0.5, description="share of speakers, rooms and noises held out for testing")

    # ---- one mixture
    seconds: float = Field(4.0, ge=0.5, le=60, description="s: length of a training mixture")
    enroll_seconds: float = Field(4.0, ge=0.5, le=60, description="s: length of an enrolment")
    enrollments: int = Field(1, ge=1, le=10, description="enrolment recordings per mixture")
    sir_min_db: float = Field(-5.0, ge=-40, le=40, description="dB: lowest target-to-interferer ratio, drawn for each interferer")
    sir_max_db: float = Field(5.0, ge=-40, le=40, description="dB: highest target-to-interferer ratio")
    noise_prob: float = Field(1.0, ge=0, le=1, description="share of mixtures with background noise")
    reverb_prob: float = Field(1.0, ge=0, le=1, description="share of mixtures with room reverberation")
    speed_min: float = Field(0.9, ge=0.5, le=1.0, description="lowest speed factor of speech, a multiple of 0.01")
    speed_max: float = Field(1.1, ge=1.0, le=2.0, description="highest speed factor of speech, a multiple of 0.01")
    level_min_db: float = Field(-32.0, ge=-70, le=-3, description="dBFS: lowest RMS level of a mixture")
    level_max_db: float = Field(-18.0, ge=-70, le=-3, description="dBFS: highest RMS level of a mixture")
    enroll_speed: Literal["matched", "own"] = Field("matched", description="speed of enrolments: matched to the mixture, or unchanged")
    same_source_prob: float = Field(0.0, ge=0, le=1, description="share of mixtures whose talkers share a source (name up to the first _)")
    min_activity: float = Field(0.4, ge=0, le=1, description="lowest share of speech in a talker's crop; 0: not checked")
    untrimmed_s: float = Field(0.0, ge=0, le=10, description="s: silence added before and after each utterance, as in untrimmed recordings")

    # ---- curriculum: one value for all phases, or one per phase
    phase_starts: list[float] = Field([0.0, 2 / 15], description="share of the steps at which each phase starts; the first is 0")
    absent_prob: list[float] = Field([0.0, 0.2], description="per phase: share of mixtures without the target")
    noisy_enroll_prob: list[float] = Field([0.0, 0.5], description="per phase: share of noisy enrolments, reached linearly by its end")
    interferers_min: list[int] = Field([1], description="per phase: fewest interferers, 0 to 8")
    interferers_max: list[int] = Field([3], description="per phase: most interferers, 0 to 8")
    snr_min_db: list[float] = Field([-5.0], description="per phase: dB, lowest target-to-noise ratio, -40 to 60")
    snr_max_db: list[float] = Field([15.0], description="per phase: dB, highest target-to-noise ratio, -40 to 60")
    similarity: list[float] = Field([0.0], description="per phase: 0: any interferer; 0.9: from the 10 % most similar to the target")
