"""From recordings or seeds to batches: corpora, synthetic voices, noise, rooms, mixtures.

In: recordings or seeds, and parameters.
Out: mixtures and batches, pure functions of (seed, index).
May not import: losses, model or any later package.

Sources of sound:
    manifest.py   utterances from folders or JSON lines whose paths cannot leave their root; identifiers of a source's content
    corpus.py     speakers and their utterances; noises and room responses in groups; held-out splits; large corpora on disk
    voices.py     espeak-ng in a separate process: text -> raw speech
    speakers.py   synthetic speakers: their voices, their sentences, and the conversion to 48 kHz speech
    synthetic.py  built-in sources: folders of synthetic speech, noise and room responses
    reader.py     stretches of recordings, cached in memory up to a limit

Drawing a mixture:
    scene.py       a mixture before rendering, as plain data; its difficulty: the curriculum, the fixed evaluation lists
    sampling.py    draws pieces of speech, noise and rooms; processes room responses
    similarity.py  similarity of voices
    augment.py     augmentation: changed enrolments, talkers as if recorded elsewhere, masking in training
    mixing.py      draws a scene from parameters, split, seed, index and conditions, and renders it

Making sound and batches:
    rendering.py        scene -> sound
    batch_rendering.py  scenes -> batch on a GPU, which keeps the recordings in its memory
    lists.py            test lists as scenes: written as JSON lines, or imported from published lists
    dataset.py          indices -> mixtures, each used once or for both of its talkers -> batches
"""
