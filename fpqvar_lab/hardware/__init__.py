"""The accelerator's datapath: units in Amaranth (`rtl`), their proof and their cost.

Every unit works on the codes and integers of `fpqvar_lab.formats` and is tested against
`Quantizer.integer_codes`.
"""
