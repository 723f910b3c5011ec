"""Sound in, batches out: corpora, synthetic voices, noise and rooms, mixtures, and the batches made of them.

In: recordings or seeds, and parameters.
Out: mixtures and batches, functions of (seed, index) alone.
May not import: losses, model or any room after them.

Where sound comes from:
    manifest.py   utterances, listed in folders or as JSON lines whose paths cannot leave their root; what runs know a source by
    corpus.py     speakers -> utterances, noises and room responses in groups; who is held out; large corpora on disk
    voices.py     espeak-ng in a process of its own: text -> raw speech
    speakers.py   synthetic speakers: who they are, what they say, how it becomes 48 kHz speech
    synthetic.py  the embedded sources: folders of synthetic speech, of kinds of noise, of rooms
    reader.py     stretches of recordings, kept in memory up to a limit

What is drawn:
    scene.py       a mixture before it is made, as plain data; how hard it is: the curriculum, the fixed lists of the evaluation
    sampling.py    pieces of speech, noise and rooms that it is drawn from, and what a room response needs
    similarity.py  which voices are alike
    augment.py     what disturbs a recording: changes of an enrolment, talkers recorded elsewhere, what training hides
    mixing.py      one mixture: a scene drawn, from parameters, split, seed, index and conditions, and made into sound

What is made of it:
    rendering.py        a scene to sound
    batch_rendering.py  scenes to a batch on a GPU, which keeps the recordings
    lists.py            test lists as scenes: written down as JSON lines, or imported from published ones
    dataset.py          indices to mixtures, each once or for both of its talkers, and to batches
"""
