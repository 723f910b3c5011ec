"""The command line tool ``hifitse`` and the interactive panel.

In: a command line, or a click in the panel.
Out: files, and an exit code.
May import every other subpackage.

    cli.py          entry point and exit codes, and the commands prepare, export, compare, gallery, runs, params, scenes, score
    run.py extract.py sitting.py    longer commands; doctor.py: checks of an enrolment; headless.py: papermill with quiet output
    exporting.py    a finished run -> a model folder with its card
    explore.py      the interactive panel; trial.py: one extraction from a test mixture, as drawn or changed by hand
"""
