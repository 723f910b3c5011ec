"""What exactly one notebook needs, measured and displayed in one file named after it; small needs of several share a file.

In: runs and rows.
Out: what one notebook shows.
May not import: prepare or commands.

gan_finetune.py   01: a finished baseline trained on, and which weights are kept
levers.py         05, 06, 07, 09: curricula, gradients of a loss, alike voices, what helped elsewhere
data_loading.py   08: the old path beside the present one, in batches, on a GPU, beside a training
performance.py    11: fast paths against plain formulas, length, busy machines
diagnosis.py      12: faults of the plan's baseline as changes, and its way of testing
default_model.py  14: the default model under twenty conditions, against its aims
scaling.py        15: recipes of the default model, each trained for the same time, and what more hours would bring
"""
