"""From a folder of recordings to a manifest and its audit page.

In: a folder of recordings.
Out: a manifest and its audit page.
May not import: studies or commands.

    bandwidth.py  up to which frequency a recording holds sound
    recording.py  what one recording is, and why it cannot be used
    layouts.py    how corpora lie on disk
    partial.py    what a scan has found so far, kept on disk
    audit.py      the audit page of a manifest
    prepare.py    a folder of recordings -> a manifest
"""
