"""Neighbouring systems, each small and whole: what else the formats, units and simulator of this
package serve.
"""
