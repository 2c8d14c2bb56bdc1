"""Models side by side on labelled sets, in one process, without a recipe and without Ray: `react-ray compare`.

`compare` in compare.py gives the figures and the differences, sentences.py and text.py say what they mean.
"""
