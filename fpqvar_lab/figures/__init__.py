"""The figures of the book, one module per part; each module is the door of its own functions.

`style` has the palette, the tables and what all figures share.
"""
