"""From a run to one row per mixture, and from rows to means, paired differences and costs.

In: a run, or any callable (mix, enroll) -> est.
Out: rows, one per mixture; their means and paired differences.
May not import: report or any room after it.

perceptual.py  PESQ and STOI, in parallel processes
evaluate.py    run + fixed evaluation lists -> one row per mixture
score.py       the same rows of any system's files
rows.py        rows -> means, paired differences, bins
experiment.py  arms, shared cached runs; their spectra below and above 8 kHz
comparison.py  a baseline and its variants, by declared changes
cost.py        what a model costs: parameters, operations, memory, time
"""
