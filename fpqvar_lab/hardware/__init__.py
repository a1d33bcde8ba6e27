"""The accelerator: units in Amaranth (`rtl`), what tools make of them (`toolchain`), and whole
designs (`accelerator`).

Every unit works on the codes and integers of `fpqvar_lab.formats` and is tested against
`Quantizer.integer_codes`.
"""
