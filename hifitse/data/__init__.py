"""Sound in, batches out: corpora, synthetic voices, noise and rooms, mixtures, and the batches made of them.

    cache.py      made once, kept on disk
    voices.py     espeak-ng in a process of its own: text -> raw speech
    synthetic.py  the embedded speech corpus          noises.py  the embedded noise
    rooms.py      room responses                      corpus.py  speakers -> utterances, disjoint splits
    mixing.py     one mixture from seed and index     dataset.py mixtures -> batches
"""
