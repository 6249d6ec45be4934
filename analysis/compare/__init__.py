"""Runs side by side: one column per sharing mode and load, what differs beyond noise, and which mode to choose.

`runs` finds and opens run directories, `keys` refuses those that can't be compared, `columns` groups them and takes
their figures, `noise` marks, `recommend` says it in words, `gate` judges limits; `comparison.compare` does all of it.
`table`, `markdown` and `files` show.
"""
