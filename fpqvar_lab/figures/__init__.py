"""The figures of the book, one module per part; each module is the door of its own functions.

`style` has the palette and what all figures share.
"""
