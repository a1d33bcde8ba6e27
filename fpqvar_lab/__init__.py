"""FPQVAR Lab: visual autoregressive (VAR) image models at 4 bits, and on an FPGA."""

__version__ = "0.1.0"
