"""Run espeak-ng in a separate process: text -> raw speech, 22.05 kHz, 16 bit.

The library keeps state between utterances that neither its random seed nor initialising it again resets. With one process per speaker,
each is a pure function of its request. So :mod:`hifitse.data.speakers` runs this file as a script that needs only the standard library.

Input, JSON: ``library``, ``data`` (paths of espeak-ng), ``voice`` (such as ``"en-us+m3"``), ``rate`` (words per minute), ``pitch`` and
``range`` (0 to 100), ``seed``, ``seconds`` (shortest and longest speech), ``texts`` (words of each utterance, as many as fit are spoken).
Output: for each utterance the number of samples as 4 bytes, little-endian, then the samples. Exit status 3: no such voice; 4: start failed.
"""

import ctypes
import json
import sys

SPEECH_RATE = 22_050  # Hz: of espeak-ng's output
SYNCHRONOUS, DONT_EXIT, CHARS_UTF8 = 2, 0x8000, 1  # constants of espeak-ng's speak_lib.h
RATE, VOLUME, PITCH, RANGE = 1, 2, 3, 4
CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p)


class Voice:
    """The library, set to one voice; create only one per process."""

    def __init__(self, request: dict) -> None:
        self._library = ctypes.CDLL(request["library"])
        self._heard: list[bytes] = []
        self._callback = CALLBACK(self._hear)  # keep a reference: the library calls it later
        if self._library.espeak_Initialize(SYNCHRONOUS, 0, request["data"].encode(), DONT_EXIT) != SPEECH_RATE:
            sys.exit(4)
        self._library.espeak_SetSynthCallback(self._callback)
        self._library.espeak_ng_SetRandSeed(ctypes.c_long(request["seed"]))
        if self._library.espeak_SetVoiceByName(request["voice"].encode()) != 0:
            sys.exit(3)
        # a third of the full volume: many variants clip at the default
        for parameter, value in ((RATE, request["rate"]), (VOLUME, 35), (PITCH, request["pitch"]), (RANGE, request["range"])):
            self._library.espeak_SetParameter(parameter, int(value), 0)

    def _hear(self, samples: int | None, count: int, _events: int | None) -> int:
        if samples and count > 0:
            self._heard.append(ctypes.string_at(samples, 2 * count))
        return 0

    def say(self, words: list[str]) -> bytes:
        self._heard.clear()
        text = (" ".join(words).rstrip(",") + ".").encode() + b"\0"
        self._library.espeak_Synth(text, len(text), 0, 1, 0, CHARS_UTF8, None, None)
        self._library.espeak_Synchronize()
        return b"".join(self._heard)


def say_for(voice: Voice, words: list[str], seconds: tuple[float, float], guess: int) -> tuple[bytes, int]:
    """Speak as many words as fill a time between the two ``seconds``, or just less, trying ``guess`` first; also return the last number."""
    shorter, longer, speech = 0, len(words) + 1, b""  # numbers of words known to be too few and too many
    count = min(len(words), guess)
    while longer - shorter > 1:
        spoken = voice.say(words[:count])
        length = len(spoken) / 2 / SPEECH_RATE
        if length > seconds[1]:
            longer = count
        else:
            shorter, speech = count, spoken
            if length >= seconds[0]:
                break
        wanted = round(count * sum(seconds) / 2 / max(length, 0.3))
        count = min(max(wanted, shorter + 1), longer - 1)
    return speech, count


def main() -> None:
    request = json.load(sys.stdin)
    voice, count = Voice(request), 12
    for words in request["texts"]:
        speech, count = say_for(voice, words, request["seconds"], count)
        sys.stdout.buffer.write((len(speech) // 2).to_bytes(4, "little") + speech)


if __name__ == "__main__":
    main()
