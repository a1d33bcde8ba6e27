"""Synthesizable units in Amaranth, one idea a file.

A unit states its ports, its latency (cycles from an input to the output that it determines) and its
initiation interval (cycles between two inputs it can take), the latter two as attributes.
"""
