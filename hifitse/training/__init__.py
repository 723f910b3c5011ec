"""From parameters to a finished run: :func:`hifitse.training.train.train` and what it stands on.

In: parameters.
Out: a run's folder.
May not import: evaluation or any room after it.

    checkpoint.py  safetensors files with weights and optimiser state
    run.py         the folder that a training leaves: parameters, history, weights
    group.py       the processes that train together, and a stop that comes after a whole step
    adversary.py   discriminators that learn beside the extractor, and when to stop
    optimizers.py  the optimisers of a training, Muon among them, and their learning rate
    hide.py        what training hides from the network: enrolments, parts of the spectrum
    state.py       all that changes: made again, from a checkpoint, or from another run
    validation.py  a quick look at unseen speakers while training goes on
    journal.py     what a training tells while it goes on
    train.py       the main path: parameters -> finished run
    abreast.py     several trainings at the same time, a process each
    pace.py        how long a step takes here, and how many fill a time
"""
