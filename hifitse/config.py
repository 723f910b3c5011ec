"""The parameters that decide the extractor's shape and the mixtures, and how a refused value is said in one sentence."""

import difflib
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator, model_validator

from hifitse.presets import ParameterError, short

PHASED = {
    "absent_prob": (0, 1), "noisy_enroll_prob": (0, 1), "similarity": (0, 1), "interferers_min": (0, 8),
    "interferers_max": (0, 8), "snr_min_db": (-40, 60), "snr_max_db": (-40, 60),
}  # fmt: skip
"""Parameters of the curriculum that have a value per phase, and the lowest and highest of each."""


def allowed(field: Any) -> str:
    """What a parameter may be, in words: its type and range."""
    kind = field.annotation
    if get_origin(kind) is Literal:
        return "one of " + ", ".join(map(repr, get_args(kind)))
    words = {int: "a whole number", float: "a number", bool: "true or false", str: "text, not empty" if field.default else "text"}
    words |= {list[int]: "a list of whole numbers", list[float]: "a list of numbers"}
    bounds = {name: getattr(rule, name) for rule in field.metadata for name in ("ge", "gt", "le", "lt") if hasattr(rule, name)}
    phrases = {"ge": "from", "gt": "above", "le": "up to", "lt": "up to but not"}
    return " ".join([words[kind], *(f"{phrases[name]} {bound}" for name, bound in bounds.items())])


def sentence(error: ValidationError, model: type[BaseModel]) -> str:
    """The first of pydantic's complaints as one sentence with name, value and what was expected."""
    first = error.errors()[0]
    if not first["loc"]:
        return str(first["ctx"]["error"])
    name = str(first["loc"][0])
    value = short(first["input"])
    if first["type"] == "extra_forbidden":
        close = difflib.get_close_matches(name.lower(), model.model_fields, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"expected one of the fields of hifitse.params.{model.__name__}"
        given = f" (value {value})" if first["input"] != "" else ""
        return f"unknown parameter {short(name)}{given}: {hint}"
    field = model.model_fields[name]
    return f"parameter {name!r} is {value}, expected {allowed(field)} ({field.description})"


class ExtractorConfig(BaseModel):
    """What decides the extractor's shape. The defaults are the 11.79 M baseline of the plan."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=(), allow_inf_nan=False)

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise ParameterError(sentence(error, type(self))) from None

    n_fft: int = Field(2048, ge=64, le=16384, description="samples: length of the Fourier transform")
    win_length: int = Field(960, ge=32, le=16384, description="samples: length of the analysis window, at most n_fft")
    hop_length: int = Field(480, ge=16, le=8192, description="samples: step between frames, at most half of win_length")
    bands_fine: int = Field(10, ge=1, le=64, description="bands from 0 to 1 kHz")
    bands_medium: int = Field(28, ge=1, le=128, description="bands from 1 to 8 kHz")
    bands_coarse: int = Field(15, ge=1, le=128, description="bands from 8 to 24 kHz")
    band_overlap: float = Field(0.05, ge=0.0, le=0.5, description="share of a band's width by which it reaches into each neighbour")
    features: int = Field(128, ge=8, le=1024, description="features D of one band in one frame")
    blocks: int = Field(6, ge=1, le=32, description="GridNet blocks")
    lstm_hidden: int = Field(256, ge=8, le=2048, description="units H of each direction of each LSTM")
    heads: int = Field(4, ge=1, le=32, description="attention heads; must divide features")
    band_layer: Literal["lstm", "mixer"] = Field("lstm", description="layer across a frame's bands: LSTM, or perceptron over all at once")
    frame_layer: Literal["lstm", "conv"] = Field("lstm", description="layer along the frames of one band")
    frame_attention: bool = Field(True, description="self-attention along the frames of one band in every block")
    usef: Literal["none", "band", "full"] = Field("band", description="cross-attention to the enrolment first, by band or all together")
    reinject: Literal["none", "band", "full"] = Field("band", description="cross-attention to the enrolment again in every block")
    input_power: float = Field(1.0, gt=0, le=1, description="exponent on the magnitudes that the network sees; 1 leaves them as they are")
    magnitude_input: bool = Field(False, description="the network also sees the logarithm of each bin's magnitude")
    phase_input: bool = Field(True, description="the network sees real and imaginary part of each bin; else its magnitude")
    mixture_blocks: int = Field(0, ge=0, le=31, description="the first blocks, which see the mixture before they know whom to extract")
    speaker_blocks: int = Field(0, ge=0, le=16, description="blocks over the enrolment, pooled to one embedding; 0: per-band mean only")
    speaker_features: int = Field(128, ge=8, le=1024, description="size of the pooled speaker embedding")
    verifier: bool = Field(False, description="a pretrained speaker verifier's embedding is added to the pooled one; needs speaker_blocks")
    adaln: bool = Field(False, description="the pooled embedding scales and shifts the output of every normalisation of the blocks")
    enroll_scales: int = Field(1, ge=1, le=4, description="time resolutions of the enrolment in cross-attention: 1, 4, 16, 64 frames")
    enroll_levels: bool = Field(False, description="cross-attention also sees the enrolment as it was before each speaker block")
    shifts: int = Field(1, ge=1, le=8, description="estimates averaged in use, their frames hop_length / shifts apart; training makes one")

    @field_validator("*", mode="before")
    @classmethod
    def _plain(cls, value: Any, info: ValidationInfo) -> Any:
        """One number stands for a list of one; true and false are no numbers, though Python counts them as such."""
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
        """Refuse the first parameter whose rule (wrong, name, what is expected) is broken."""
        for wrong, name, expected in rules:
            if wrong:
                raise ValueError(f"{name} is {getattr(self, name)}, expected {expected}")


class Data(ExtractorConfig):
    """What decides mixtures, in training and evaluation alike."""

    # ---- sources of sound: "synthetic", or a folder or manifest (environment variables are expanded)
    corpus: str = Field("synthetic", min_length=1, description="speech: synthetic, a folder of speaker/utterance files or a JSONL manifest")
    noise: str = Field("synthetic", min_length=1, description="noise: synthetic, or a folder of recordings")
    rooms: str = Field("synthetic", min_length=1, description="room responses: synthetic, or a folder of recordings")
    corpus_seed: int = Field(0, ge=0, le=2**31 - 1, description="seed of the synthetic sources and of the split by speaker, room and noise")
    train_only: str = Field("", description="speakers that are never held out: the beginnings of their names, separated by commas")
    synthetic_speakers: int = Field(200, ge=6, le=2000, description="speakers of the synthetic corpus")
    synthetic_utterances: int = Field(8, ge=2, le=200, description="utterances of each synthetic speaker")
    synthetic_noises: int = Field(80, ge=18, le=2000, description="clips of synthetic noise, 10 s each")
    synthetic_rooms: int = Field(60, ge=6, le=2000, description="rooms of the synthetic bank, 4 responses each")
    synthetic_t60_s: float = Field(0.9, ge=0.3, le=4, description="s: longest T60 of the synthetic rooms; above 0.9 they grow to halls")
    valid_share: float = Field(0.1, gt=0, lt=0.5, description="share of speakers, rooms and noises held out for validation")
    test_share: float = Field(0.2, gt=0, lt=0.5, description="share of speakers, rooms and noises held out for the test")

    # ---- one mixture
    seconds: float = Field(4.0, ge=0.5, le=60, description="s: length of a training mixture")
    enroll_seconds: float = Field(4.0, ge=0.5, le=60, description="s: length of an enrolment")
    enrollments: int = Field(1, ge=1, le=10, description="enrolment recordings of a mixture")
    sir_min_db: float = Field(-5.0, ge=-40, le=40, description="dB: lowest target-to-interferer ratio, drawn for each interferer")
    sir_max_db: float = Field(5.0, ge=-40, le=40, description="dB: highest target-to-interferer ratio")
    noise_prob: float = Field(1.0, ge=0, le=1, description="share of mixtures with background noise")
    reverb_prob: float = Field(1.0, ge=0, le=1, description="share of mixtures in a room")
    speed_min: float = Field(0.9, ge=0.5, le=1.0, description="lowest speed factor, on a grid of 0.01")
    speed_max: float = Field(1.1, ge=1.0, le=2.0, description="highest speed factor, on a grid of 0.01")
    level_min_db: float = Field(-32.0, ge=-70, le=-3, description="dBFS: lowest RMS level of a mixture")
    level_max_db: float = Field(-18.0, ge=-70, le=-3, description="dBFS: highest RMS level of a mixture")
    enroll_speed: Literal["matched", "own"] = Field("matched", description="speed of an enrolment: as in the mixture, or its own voice")
    same_source_prob: float = Field(0.0, ge=0, le=1, description="share of mixtures of one source: what names have up to the first _")
    min_activity: float = Field(0.4, ge=0, le=1, description="least share of a talker's crop with speech; 0: crops are not checked")
    untrimmed_s: float = Field(0.0, ge=0, le=10, description="s: silence before and after each utterance, as in untrimmed recordings")

    # ---- curriculum: one value for all phases, or one per phase
    phase_starts: list[float] = Field([0.0, 2 / 15], description="share of the steps at which each phase starts; the first is 0")
    absent_prob: list[float] = Field([0.0, 0.2], description="by phase: share of mixtures without the target")
    noisy_enroll_prob: list[float] = Field([0.0, 0.5], description="by phase: share of noisy enrolments, reached linearly over the phase")
    interferers_min: list[int] = Field([1], description="by phase: fewest interferers, 0 to 8")
    interferers_max: list[int] = Field([3], description="by phase: most interferers, 0 to 8")
    snr_min_db: list[float] = Field([-5.0], description="by phase: dB, lowest target-to-noise ratio, -40 to 60")
    snr_max_db: list[float] = Field([15.0], description="by phase: dB, highest target-to-noise ratio, -40 to 60")
    similarity: list[float] = Field([0.0], description="by phase: 0 any voice interferes, 0.9 one of the tenth most like the target")
